"""Train and val: apart by scene, and stable when a data set grows."""

from pathlib import Path

import pytest

from pwc_exp.data.sample import Sample
from pwc_exp.data.splits import split_samples, take_split


def samples_of(*scenes: str, split: str | None = None) -> list[Sample]:
    path = Path("x")
    return [
        Sample(f"{scene}/{number}", scene, path, path, path, split=split)
        for scene in scenes
        for number in range(3)
    ]


def scenes_of(samples: list[Sample]) -> set[str]:
    return {sample.scene for sample in samples}


SCENES = [f"scene_{number}" for number in range(200)]


@pytest.mark.parametrize("val_share", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("count", [2, 3, 23, 200])
def test_no_scene_is_on_both_sides_and_no_side_is_empty(count: int, val_share: float) -> None:
    samples = samples_of(*SCENES[:count])
    train, val = split_samples(samples, val_share=val_share)
    assert not scenes_of(train) & scenes_of(val)
    assert train
    assert val
    assert sorted(train + val) == sorted(samples)


def test_val_holds_about_its_share() -> None:
    _, val = split_samples(samples_of(*SCENES), val_share=0.2)
    assert 25 <= len(scenes_of(val)) <= 55


def test_further_scenes_do_not_move_the_known_ones() -> None:
    _, few = split_samples(samples_of(*SCENES[:100]), val_share=0.2)
    _, many = split_samples(samples_of(*reversed(SCENES)), val_share=0.2)
    assert scenes_of(few) == scenes_of(many) & set(SCENES[:100])


def test_a_single_scene_is_on_both_sides() -> None:
    samples = samples_of("only")
    assert split_samples(samples, val_share=0.1) == (samples, samples)


def test_the_data_sets_own_split_is_honoured() -> None:
    official = samples_of("a", "b", split="train") + samples_of("c", split="val")
    assert scenes_of(take_split(official, "train", val_share=0.5)) == {"a", "b"}
    assert scenes_of(take_split(official, "val", val_share=0.5)) == {"c"}
    assert take_split(official, "all", val_share=0.5) == official
