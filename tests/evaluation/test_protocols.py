"""The definitions of others: they differ where they must, and agree elsewhere."""

from typing import Any

import numpy as np
import pytest

from pwc_exp.config.commands import Dialect as Choice
from pwc_exp.evaluation import Field, GroundTruth, means, score
from pwc_exp.evaluation.protocols import PROTOCOLS, GroundTruthKind, score_by_protocols

DENSE, SPARSE = GroundTruthKind(sparse=False), GroundTruthKind(sparse=True)


def wrong_by(
    errors: list[float], *, speed: float = 0.0, valid: list[int] | None = None, **masks: Any
) -> dict[str, float]:
    """The sums of a frame of one row whose pixels are off by `errors`."""
    truth = np.zeros((1, len(errors), 2))
    truth[..., 1] = speed
    estimate = truth.copy()
    estimate[0, :, 0] = errors
    known = np.ones((1, len(errors))) if valid is None else np.array([valid])
    if valid is not None:  # a mask hides what the file itself holds
        masks["plain"] = Field(truth, np.ones_like(known))
    masks = {k: np.array([v]) if isinstance(v, list) else v for k, v in masks.items()}
    return score(estimate, GroundTruth(truth, known, **masks))


def all_of(samples: list[dict[str, float]], kind: GroundTruthKind) -> dict[str, dict[str, float]]:
    return score_by_protocols(list(PROTOCOLS), samples, kind)


def test_of_one_dense_frame_all_have_one_epe_and_one_fl() -> None:
    found = all_of([wrong_by([0.5, 2, 4, 7.5])], DENSE)
    names = ["EPE all", "Avg-All", "EPE", "epe", "per_image_epe"]
    assert [f[n] for f in found.values() for n in names if n in f] == [3.5] * 8
    assert [f[n] for f in found.values() for n in ("Fl-all", "f1", "Fl", "flall") if n in f] == (
        [50] * 5
    )


def test_frames_of_unequal_count_part_those_who_average_images_from_those_who_pool_pixels() -> None:
    samples = [wrong_by([8]), wrong_by([0, 0, 0, 0])]
    found = all_of(samples, SPARSE)
    pooled, averaged = 8 / 5, 4
    assert found["mmflow"]["EPE"] == found["torchvision"]["epe"] == pytest.approx(pooled)
    assert found["raft"]["kitti-epe"] == found["kitti"]["Avg-All"] == averaged
    assert found["torchvision"]["per_image_epe"] == found["ptlflow"]["epe"] == averaged
    assert found["raft"]["kitti-f1"] == found["mmflow"]["Fl"] == 20  # over pixels, both
    assert found["kitti"]["Fl-all"] == 20
    assert found["kitti"]["Out-All"] == found["ptlflow"]["flall"] == 50
    assert all_of(samples, DENSE)["raft"]["EPE"] == pytest.approx(pooled)  # KITTI alone by image


def test_1px_is_the_share_within_for_raft_and_the_percentage_beyond_for_spring() -> None:
    found = all_of([wrong_by([0.5, 0.5, 0.5, 2])], DENSE)
    assert found["raft"]["1px"] == found["torchvision"]["1px"] == found["ptlflow"]["px1"] == 0.75
    assert found["spring"]["1px"] == 25
    at_bound = all_of([wrong_by([1.0])], DENSE)  # neither below nor above
    assert at_bound["raft"]["1px"] == 0
    assert at_bound["spring"]["1px"] == 0


def test_invalid_pixels_of_a_dense_data_set_count_for_those_who_read_no_mask() -> None:
    found = all_of([wrong_by([1, 1, 1, 9], valid=[1, 1, 1, 0])], DENSE)
    assert found["sintel"]["EPE all"] == 1
    assert found["raft"]["EPE"] == found["mmflow"]["EPE"] == found["torchvision"]["epe"] == 3


def test_kitti_2012_has_no_relative_bound() -> None:
    found = all_of([wrong_by([4, 4, 0, 0], speed=100)], SPARSE)
    assert found["kitti"]["Out-All"] == 50
    assert found["kitti"]["Fl-all"] == found["raft"]["kitti-f1"] == found["mmflow"]["Fl"] == 0


def test_kitti_tells_visible_pixels_from_all() -> None:
    samples = [wrong_by([0, 0, 0, 8], occlusion=[0, 0, 0, 1])]
    found = score_by_protocols(["kitti"], samples, SPARSE)["kitti"]
    assert (found["Out-Noc"], found["Avg-Noc"]) == (0, 0)
    assert (found["Out-All"], found["Avg-All"]) == (25, 2)
    noc = score_by_protocols(
        ["kitti"], [wrong_by([0, 8])], GroundTruthKind(True, visible_only=True)
    )["kitti"]
    assert (noc["Out-Noc"], noc["Avg-Noc"]) == (50, 4)
    assert "Out-All" not in noc


def test_a_frame_without_hidden_pixels_lowers_the_occluded_error_of_ptlflow_alone() -> None:
    samples = [wrong_by([1, 6], occlusion=[0, 1]), wrong_by([1, 1], occlusion=[0, 0])]
    found = all_of(samples, DENSE)
    assert found["sintel"]["EPE unmatched"] == means(samples)["aepe_unmatched"] == 6
    assert found["ptlflow"]["epe_occ"] == 3


def test_sintel_s_distances_are_to_occlusions_and_ours_to_edges_of_motion() -> None:
    truth = np.zeros((1, 100, 2))
    truth[:, 60:, 0] = 5  # an edge of motion at column 59
    hidden = np.zeros((1, 100))
    hidden[:, :21] = 1  # the rim of what is hidden is column 20
    estimate = truth.copy()
    estimate[0, :, 1] = np.arange(100)
    samples = [score(estimate, GroundTruth(truth, np.ones((1, 100)), occlusion=hidden))]
    assert score_by_protocols(["sintel"], samples, DENSE)["sintel"]["d0-10"] == np.mean(
        range(11, 30)
    )
    assert means(samples)["aepe_d0_10"] == np.mean(range(50, 69))


def test_figures_without_any_pixel_are_left_out() -> None:
    found = all_of([wrong_by([1, 1], valid=[0, 0], plain=None)], DENSE)
    assert found["sintel"] == {}
    assert all(not np.isnan(v) for figures in found.values() for v in figures.values())


def test_the_command_offers_every_protocol() -> None:
    assert Choice.all.names == list(PROTOCOLS)
    assert Choice.raft.names == ["raft"]
