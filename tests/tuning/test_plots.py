import io
from pathlib import Path

import pytest
from PIL import Image

from pwc_exp.config.sweeps import OptunaConfig, Pruner
from pwc_exp.tuning import open_search
from pwc_exp.tuning.plots import draw
from pwc_exp.tuning.space import parse
from pwc_exp.tuning.study import Search

PARAMS = {
    "schedule.peak": "tag(log, interval(1e-4, 1e-2))",
    "model": "tiny,sm",
    "batch_size": "range(2, 3)",
    "augment.hue": "interval(0, 90)",
}
KEYS = ("val_aepe", "seconds")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def opened(folder: Path, config: OptunaConfig) -> Search:
    return open_search(folder, "sweep", parse(config.params), config, jobs=1, steps=20)


def try_each(search: Search, *values: float) -> None:
    keys = search.objectives
    for value in values:
        proposal = search.ask()
        assert proposal is not None
        for step in (10, 20):
            if search.report(proposal.number, step, value + 1 / step):
                search.prune(proposal.number)
                break
        else:
            search.tell(proposal.number, {key: value**n for n, key in enumerate(keys, start=1)})


def test_a_search_with_a_pruner_is_drawn(tmp_path: Path) -> None:
    search = opened(tmp_path, OptunaConfig(params=PARAMS, pruner=Pruner.median, startup_trials=3))
    try_each(search, 3.0, 2.0, 1.0, 9.0, 1.5)
    running = search.ask()
    assert running is not None
    search.report(running.number, 10, 1.0)
    made, absent = draw(search)
    assert set(made) == {"history", "values", "importance", "curves"} and absent == {}
    for png in made.values():
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.format == "PNG" and picture.width > 600
            assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 10  # not blank


def test_two_objectives_have_a_front_and_no_curves(tmp_path: Path) -> None:
    config = OptunaConfig(params=PARAMS, objectives=["val/aepe", "seconds"])
    search = opened(tmp_path, config)
    try_each(search, 3.0, 2.0, 0.1, 9.0, 1.5)
    made, absent = draw(search)
    each = {f"{name} {key}" for name in ("history", "values", "importance") for key in KEYS}
    assert set(made) == {*each, "front"} and absent == {}


def test_nothing_is_drawn_of_nothing_and_a_reason_given(tmp_path: Path) -> None:
    search = opened(tmp_path, OptunaConfig(params=PARAMS))
    made, absent = draw(search)
    assert made == {} and "no trial is complete" in absent["history"]


@pytest.mark.parametrize("values", [(1.0,), (1.0, 2.0, 3.0), (1.0, 1.0, 1.0, 1.0, 1.0)])
def test_importance_needs_some_trials_and_different_values(
    values: tuple[float, ...], tmp_path: Path
) -> None:
    search = opened(tmp_path, OptunaConfig(params=PARAMS))
    try_each(search, *values)
    made, absent = draw(search)
    assert set(made) == {"history", "values", "curves"}
    assert f"has {len(values)}" in absent["importance"]


def test_failed_trials_do_not_keep_the_others_from_being_drawn(tmp_path: Path) -> None:
    search = opened(tmp_path, OptunaConfig(params={"model": "tiny,sm,lg"}))
    try_each(search, float("nan"), -1.0)
    made, _ = draw(search)
    assert {"history", "values", "curves"} <= set(made)
