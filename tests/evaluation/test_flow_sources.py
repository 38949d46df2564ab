"""Baselines: what OpenCV estimates is in our convention, and equals its published errors."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import tensorflow as tf

from pwc_exp.data.formats.images import write_image
from pwc_exp.errors import ConfigError, DataError, MissingExtraError
from pwc_exp.evaluation.evaluator import evaluate
from pwc_exp.evaluation.flow_sources import Pairs, _grey, build_flow_sources
from pwc_exp.inputs import check_places

DATA = ("data=synthetic", "data.crop=[32,48]")
# AEPE, mean over the pairs, of OpenCV 5 in its README. FlyingChairs: of frames read as PPM files,
# which OpenCV makes grey by another rule than PNG files.
PUBLISHED = {
    "zero": [6.007, 6.007, 4.349, 4.484, 11.155, 51.010],
    "dis": [0.657, 0.730, 3.234, 0.422, 1.027, 23.734],
    "farneback": [2.097, 3.126, 4.054, 1.554, 5.542, 46.300],
}


def flow_of(configure: Callable[..., Any], name: str, frames: tuple[np.ndarray, ...]) -> np.ndarray:
    config = configure("evaluate", *DATA, f"estimate={name}")
    (found,) = build_flow_sources(config, None, [])  # type: ignore[arg-type] # it needs no samples
    frame1, frame2 = (tf.constant(frame[None], tf.float32) / 255 for frame in frames)
    return found.estimate(Pairs(["a"], frame1, frame2))[0]


@pytest.mark.parametrize("name", ["dis", "farneback"])
def test_a_translated_photograph_is_found_with_the_right_sign(
    name: str, configure: Callable[..., Any]
) -> None:
    pytest.importorskip("cv2")
    right, down = 5, -3
    photograph = skimage.data.astronaut()
    frame1 = photograph[100:228, 100:292]
    frame2 = photograph[100 - down : 228 - down, 100 - right : 292 - right]
    flow = flow_of(configure, name, (frame1, frame2))
    assert flow.shape == (128, 192, 2)
    inner = flow[32:-32, 32:-32]
    np.testing.assert_allclose(np.median(inner, axis=(0, 1)), [right, down], atol=0.1)


def test_grey_frames_are_those_that_opencv_reads(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "frame.png"
    write_image(path, skimage.data.astronaut()[::4, ::3])
    expected = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(_grey(skimage.data.astronaut()[None, ::4, ::3])[0], expected)


def test_frames_that_are_too_small_for_opencv_are_refused(configure: Callable[..., Any]) -> None:
    pytest.importorskip("cv2")
    frame = np.zeros((6, 8, 3), np.uint8)
    with pytest.raises(DataError, match="6 x 8"):
        flow_of(configure, "dis", (frame, frame))


def test_an_unknown_baseline_is_told_the_known(configure: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"estimate .*zero, dis, farneback.*Received: raft"):
        configure("evaluate", *DATA, "estimate=[zero,raft]")


def test_without_opencv_the_extra_is_named_before_anything_starts(
    configure: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    check_places(configure("evaluate", *DATA, "estimate=zero"), tmp_path)
    config = configure("evaluate", *DATA, "estimate=[zero,dis]")
    with pytest.raises(MissingExtraError, match=r"pip install 'pwc_exp\[opencv\]'"):
        check_places(config, tmp_path)
    with pytest.raises(MissingExtraError, match=r"pip install 'pwc_exp\[opencv\]'"):
        build_flow_sources(config, None, [])  # type: ignore[arg-type]


@pytest.mark.slow
def test_real_pairs_have_the_published_errors_of_the_baselines(
    configure: Callable[..., Any], shared: Path, tmp_path: Path
) -> None:
    pytest.importorskip("cv2")
    data = ("data=realpairs", f"data.root={shared}/data", "pictures=0", f"out={tmp_path}")
    evaluate(configure("evaluate", *data, "estimate=[zero,dis,farneback]"))
    for name, expected in PUBLISHED.items():
        found = json.loads((tmp_path / name / "metrics.json").read_text())["datasets"]
        means = [part["aepe_per_image"] for part in found.values()]
        assert means == pytest.approx(expected, rel=0.002, abs=5e-4)
