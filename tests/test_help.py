"""`--help` explains every setting of every command, and the overview lists every command."""

import dataclasses
import sys
from collections.abc import Callable

import pytest

from pwc_exp import __main__ as overview
from pwc_exp import __version__, cli
from pwc_exp.config.help import EXAMPLES, RECORD, explanations, help_text
from pwc_exp.config.schema import COMMANDS, VARIANTS

SCHEMAS = {
    **COMMANDS,
    **{f"{g}={n}": kind for g, found in VARIANTS.items() for n, kind in found.items()},
}
Shown = Callable[..., str]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shown:
    """(command, *arguments) -> what is printed; the task must not run."""

    def run(command: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [command, *arguments])
        cli.run(command, "nowhere:nothing")
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_setting_is_explained(name: str) -> None:
    schema = SCHEMAS[name]
    groups = {each.name for each in dataclasses.fields(schema) if "Config" in str(each.type)}
    unexplained = [
        setting
        for setting, meaning in explanations(schema).items()
        if not meaning and setting not in {*groups, RECORD, "_target_"}
    ]
    assert unexplained == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples_and_lists_its_settings(command: str) -> None:
    schema: type = COMMANDS[command]
    text = help_text(command, None, None)
    assert len(EXAMPLES[command]) > 0
    for setting in explanations(schema):
        assert setting == RECORD or f"{setting}" in text


def test_the_help_shows_the_values_that_the_arguments_give(shown: Shown) -> None:
    assert "  batch_size=3  examples per update" in shown("train", "batch_size=3", "--help")
    cyclic = shown("train", "schedule=cyclic", "--help", "schedule")
    assert "schedule.half_cycle=" in cyclic and "batch_size" not in cyclic


def test_the_version_is_ours(shown: Shown) -> None:
    assert shown("train", "--version") == f"pwc_exp {__version__}\n"


def test_the_overview_runs_the_command_that_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(cli, "run", lambda command, task: ran.append((command, sys.argv[1:])))
    monkeypatch.setattr(sys, "argv", ["pwc"])
    overview.main()
    listed = capsys.readouterr().out
    assert all(f"pwc {name}" in listed for name in overview.COMMANDS)
    for name in overview.COMMANDS:
        monkeypatch.setattr(sys, "argv", ["pwc", name, *(["check"] if name == "data" else [])])
        overview.main()
    assert [command for command, _ in ran] == [
        "data_check" if name == "data" else name for name in overview.COMMANDS
    ]


def test_an_unknown_command_is_refused_with_the_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pwc", "trian"])
    with pytest.raises(SystemExit) as ended:
        overview.main()
    assert ended.value.code == 2
    assert "must be one of predict, train" in capsys.readouterr().err
