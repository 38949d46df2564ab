"""The machine is divided: no GPU and no processor belongs to two runs."""

from typing import Any

import pytest

from pwc_exp.errors import ConfigError
from pwc_exp.sweeps.shares import Share, divide, find_gpus


def shares(**choices: Any) -> list[Share]:
    usual: dict[str, Any] = {"jobs": None, "gpus": None, "gpus_per_job": 1, "found": []}
    return divide(**{**usual, "processors": range(8), **choices})


def test_without_gpus_one_run_has_all_processors() -> None:
    assert shares() == [Share(frozenset(range(8)), None)]


def test_processors_are_dealt_out_whole() -> None:
    parts = [share.processors for share in shares(jobs=3)]
    assert frozenset.union(*parts) == frozenset(range(8))
    assert sum(map(len, parts)) == 8
    assert {len(part) for part in parts} == {2, 3}


def test_each_gpu_has_a_run() -> None:
    found = shares(found=["0", "1", "GPU-abc"])
    assert [share.gpus for share in found] == [("0",), ("1",), ("GPU-abc",)]
    assert found[2].environment() == {"CUDA_VISIBLE_DEVICES": "GPU-abc"}


def test_gpus_that_are_too_few_for_a_run_are_left_alone() -> None:
    found = shares(found=["0", "1", "2", "3", "4"], gpus_per_job=2)
    assert [share.gpus for share in found] == [("0", "1"), ("2", "3")]


def test_gpus_are_chosen_by_number() -> None:
    assert [share.gpus for share in shares(found=["4", "5", "6"], gpus=[2, 0])] == [("6",), ("4",)]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"jobs": 9}, "hydra.launcher.jobs must be at most 8, for which there are processors"),
        ({"jobs": 3, "found": ["0", "1"]}, "at most 2, for which there are GPUs"),
        (
            {"gpus": [2], "found": ["0", "1"]},
            "hydra.launcher.gpus must be among the GPUs that were found .2",
        ),
        ({"gpus": [0]}, "hydra.launcher.gpus must be among the GPUs that were found .0"),
        ({"gpus_per_job": 3, "found": ["0", "1"]}, "gpus_per_job must be at most the 2 GPUs"),
    ],
)
def test_more_than_there_is_is_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shares(**choices)


@pytest.mark.parametrize(
    ("visible", "found"), [("2,0", ["2", "0"]), ("", []), ("-1", []), ("GPU-a", ["GPU-a"])]
)
def test_gpus_that_the_user_hides_are_not_there(visible: str, found: list[str]) -> None:
    assert find_gpus({"CUDA_VISIBLE_DEVICES": visible}) == found
