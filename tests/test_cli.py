"""A command refuses what is wrong at once: one line, an exit code, and nothing left behind."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pwc_exp import cli

# A task that fails as the file `fail` says, and else notes what it was called with.
TASK = """
from pathlib import Path
from pwc_exp.errors import DataError

FAILURES = {
    "data": DataError("a.flo: not a flow.\\nReceived: nothing"),
    "bug": RuntimeError("a bug"),
    "interrupt": KeyboardInterrupt(),
    "stopped": SystemExit(143),
}

def run(config, *run_dir):
    if Path("fail").exists() and getattr(config, "seed", 0) == 0:
        raise FAILURES[Path("fail").read_text()]
    with Path("calls").open("a") as calls:
        calls.write(repr([type(config).__name__, *map(str, run_dir)]) + "\\n")
"""

# Says on its last line whether TensorFlow, or anything that needs it, was imported by the refusals.
REFUSALS = """
import sys
from pwc_exp import cli

for arguments in sys.argv[1:]:
    sys.argv[1:] = arguments.split()
    try:
        cli.run("train", "pwc_task:run")
    except SystemExit as end:
        print(end.code)
print(sorted({"tensorflow", "keras", "mlflow", "numpy", "pwc_task"} & set(sys.modules)))
"""


class Ending(NamedTuple):
    code: int
    stderr: str
    stdout: str = ""


Run = Callable[..., Ending]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command with the stub task, in an empty working directory."""
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "pwc_task.py").write_text(TASK)
    (tmp_path / "cwd").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "task")
    monkeypatch.delitem(sys.modules, "pwc_task", raising=False)
    monkeypatch.chdir(tmp_path / "cwd")
    for name in ("HYDRA_FULL_ERROR", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.setenv(name, "0")  # restored after the test, whatever the command sets

    def call(command: str, *arguments: str) -> Ending:
        monkeypatch.setattr(sys, "argv", [command, *arguments])
        try:
            cli.run(command, "pwc_task:run")
        except SystemExit as end:
            code = end.code
        else:
            code = 0
        assert isinstance(code, int)
        output = capfd.readouterr()
        return Ending(code, output.err, output.out)

    return call


def fail(how: str) -> None:
    Path("fail").write_text(how)


def calls() -> list[list[str]]:
    return [eval(line) for line in Path("calls").read_text().splitlines()]


def left() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("+model.levls=3", "model.levls: unknown key; did you mean 'model.levels'?"),
        ("+data={layrs:3}", "data.layrs: unknown key; did you mean 'data.layers'?"),
        (
            "schedule=cyclic schedule.values=[1]",
            "schedule.values: the chosen schedule has no such key",
        ),
        ("--cfg job modle=lg", "modle: unknown key; did you mean 'model'?"),
        ("--multi modle=lg", "--multi: unknown flag; settings have no dashes: <setting>=<value>"),
    ],
)
def test_a_wrong_argument_costs_one_line_and_exit_2(run: Run, arguments: str, line: str) -> None:
    ending = run("train", *arguments.split())
    assert ending.code == 2
    assert ending.stderr.startswith(f"error: {line}")
    assert ending.stderr.count("\n") == 1
    assert left() == []


PRESETS = {
    "bad": "name: x\nmodel: [1\n",
    "typo": "# @package _global_\nmodel:\n  levls: 3\n",
}


@pytest.mark.parametrize(
    ("command", "arguments", "line"),
    [
        ("describe", "data=kitti", "data: unknown key"),
        ("predict", "out=x weights=x", "frames: a value is needed: frames=..."),
        (
            "train",
            "-m modle=lg,sm",
            "modle: unknown key; did you mean 'model'? (of child 0, modle=lg)",
        ),
        (
            "train",
            "experiment=typo",
            "model.levls: unknown key; did you mean 'model.levels'? (in experiment/typo.yaml)",
        ),
        ("train", "experiment=bad", "{folder}/bad.yaml:3: malformed YAML; "),
    ],
)
def test_a_wrong_key_is_refused_wherever_it_is(
    run: Run, command: str, arguments: str, line: str
) -> None:
    folder = Path("experiments").resolve()
    folder.mkdir()
    if preset := arguments.partition("experiment=")[2]:
        (folder / f"{preset}.yaml").write_text(PRESETS[preset])
    ending = run(command, *arguments.split())
    assert ending.code == 2 and ending.stderr.count("\n") == 1
    assert ending.stderr.startswith(f"error: {line.format(folder=folder)}")


@pytest.mark.parametrize(
    ("command", "arguments", "key"),
    [
        ("train", "data=sintel data.root=nowhere", "data.root"),
        ("train", "data=sintel data.root=${outputs}", "data.root"),
        ("evaluate", "run=nowhere", "run"),
        ("predict", "weights=nowhere out=x frames=[a,b]", "weights"),
        ("predict", "run=. out=x frames=[a,b]", "frames"),
        ("predict", "weights=. frames=['a.png','b.png']", "frames"),
    ],
)
def test_a_missing_input_costs_exit_66(run: Run, command: str, arguments: str, key: str) -> None:
    ending = run(command, *arguments.split())
    assert ending.code == 66
    assert ending.stderr.startswith(f"error: {key}: no such file or folder: ")
    assert left() == []


def test_the_weights_of_a_tensorflow_checkpoint_are_found_by_their_prefix(run: Run) -> None:
    for name in ("ckpt-1.index", "a.png", "b.png"):
        Path(name).touch()
    assert run("predict", "weights=ckpt-1", "model=sm", "out=x", "frames=[a.png,b.png]").code == 0


def test_outputs_that_cannot_be_made_or_written_cost_exit_73(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").touch()
    Path("dangling").symlink_to("nowhere")
    for outputs in ("file", "file/below", "dangling"):
        ending = run("train", f"outputs={outputs}")
        assert ending.code == 73
        assert ending.stderr.startswith(f"error: outputs: cannot make the folder {outputs}/train;")
    assert left() == ["dangling", "file"]
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK)
    assert run("train") == Ending(73, "error: outputs: cannot write in the folder outputs/train\n")


def test_a_refusal_imports_neither_tensorflow_nor_the_task(tmp_path: Path) -> None:
    (tmp_path / "pwc_task.py").write_text(TASK)
    refused = ["modle=lg", "steps=-1", "data=kitti data.root=nowhere", "outputs=/dev/null"]
    done = subprocess.run(
        [sys.executable, "-c", REFUSALS, *refused],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])},
        check=True,
    )
    assert done.stdout.split("\n") == ["2", "2", "66", "73", "[]", ""]
    assert done.stderr.count("\n") == len(refused)


def test_presets_of_the_working_directory_win(run: Run) -> None:
    Path("experiments").mkdir()
    Path("experiments/quickstart.yaml").write_text("# @package _global_\nname: mine\n")
    assert run("train", "experiment=quickstart").code == 0
    assert Path(calls()[0][1]).parent == Path("outputs/mine").resolve()


def test_a_training_task_gets_its_run_folder_and_others_leave_nothing(run: Run) -> None:
    assert run("train", "name=x", "outputs=runs") == Ending(0, "")
    assert run("describe") == Ending(0, "")
    (train, run_dir), describe = calls()
    assert (train, describe) == ("TrainConfig", ["DescribeConfig"])
    assert Path(run_dir).parent == Path("runs/x").resolve()
    assert list(Path(run_dir).iterdir()) == []
    assert [path for path in left() if not path.startswith("runs")] == ["calls"]


def test_what_a_user_can_mend_costs_one_line_and_its_exit_code(run: Run) -> None:
    fail("data")
    assert run("train") == Ending(65, "error: a.flo: not a flow. Received: nothing\n")
    assert [path.name for path in Path("outputs").glob("train/*/*")] == ["error.log"]
    assert run("describe") == Ending(65, "error: a.flo: not a flow. Received: nothing\n")


def test_a_bug_leaves_its_traceback_on_stderr_and_in_the_run_folder(run: Run) -> None:
    fail("bug")
    ending = run("train")
    (log,) = Path("outputs").glob("train/*/error.log")
    assert ending.code == 1
    for text in (ending.stderr, log.read_text()):
        assert text.startswith("Traceback")
        assert text.endswith("RuntimeError: a bug\n")


def test_a_reader_who_is_gone_costs_no_traceback() -> None:
    program = "from pwc_exp import cli\nwith cli.exit_codes():\n    print('x' * 100_000)"
    command = ["bash", "-o", "pipefail", "-c", '"$0" -c "$1" | true', sys.executable, program]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_ctrl_c_costs_exit_130_and_no_traceback(run: Run) -> None:
    fail("interrupt")
    assert run("train") == Ending(130, "interrupted\n")


BASIC = ("-m", "hydra/sweeper=basic", "hydra/launcher=basic")  # all jobs in this process


@pytest.mark.parametrize("how", ["data", "bug"])
def test_a_failed_job_does_not_end_a_sweep(run: Run, how: str) -> None:
    fail(how)  # the job with seed 0
    ending = run("train", *BASIC, "seed=0,1,2")
    assert ending.code == {"data": 65, "bug": 1}[how]
    assert len(calls()) == 2


def test_a_sweep_in_one_process_is_stopped_as_a_whole(run: Run) -> None:
    fail("stopped")  # by a signal, which the process gets
    assert run("train", *BASIC, "seed=0,1,2").code == 143
    assert not Path("calls").exists()


def test_a_job_of_a_sweep_is_checked(run: Run) -> None:
    assert run("train", *BASIC, "steps=-1,5").code == 2
    assert len(calls()) == 1


@pytest.mark.parametrize(
    ("flags", "shown"),
    [("--help", "  loss: multiscale|plus|robust"), ("--cfg job", "batch_size: 8")],
)
def test_flags_that_show_something_run_nothing(run: Run, flags: str, shown: str) -> None:
    ending = run("train", *flags.split())
    assert ending.code == 0
    assert shown in ending.stdout.splitlines()
    assert left() == []


def test_the_environment_is_set_unless_the_user_has_set_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", {"TF_CPP_MIN_LOG_LEVEL": "0"})
    cli.prepare_environment()
    assert os.environ == {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_ENABLE_ONEDNN_OPTS": "1"}


def test_the_first_argument_names_one_of_several_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, str, list[str]]] = []
    monkeypatch.setattr(cli, "run", lambda name, task: ran.append((name, task, sys.argv[1:])))
    for arguments in (["check", "data=x"], ["stats"]):
        monkeypatch.setattr(sys, "argv", ["data", *arguments])
        cli.run_one_of("data", {"check": "m:check", "stats": "m:stats"})
    monkeypatch.setattr(sys, "argv", ["benchmark", "model=sm"])
    cli.run_one_of("benchmark", {"": "m:all", "pipeline": "m:pipeline"})
    assert ran == [
        ("data_check", "m:check", ["data=x"]),
        ("data_stats", "m:stats", []),
        ("benchmark", "m:all", ["model=sm"]),
    ]


def test_paths_without_a_key_become_values_of_it_and_flags_keep_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.png").touch()
    arguments = ["--cfg", "job", "a=b.png", "-p", "model", "out=x", "c.png", "-r"]
    monkeypatch.setattr(sys, "argv", ["predict", *arguments])
    cli.name_paths("frames", most=2)
    flags = ["--cfg", "job", "-p", "model", "out=x", "-r"]
    assert sys.argv == ["predict", "frames=['a=b.png','c.png']", *flags]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("a b c", "frames: at most 2 paths can be given without a key; for more write "),
        ("a b frames=c", "frames: given twice, with and without a key: a, b"),
    ],
)
def test_paths_without_a_key_are_few_and_given_once(
    arguments: str,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["predict", *arguments.split()])
    with pytest.raises(SystemExit) as end:
        cli.name_paths("frames", most=2)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {line}")


@pytest.mark.parametrize(("arguments", "received"), [([], "none"), (["chek"], "chek")])
def test_an_unknown_command_is_refused_with_the_known_ones(
    arguments: list[str],
    received: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["data", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.run_one_of("data", {"check": "m:check", "stats": "m:stats"})
    assert end.value.code == 2
    line = f"must be one of check, stats. Received: {received}"
    assert line in capsys.readouterr().err
