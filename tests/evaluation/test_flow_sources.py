"""Flow sources: files of every format, an export, and baselines in our convention."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import skimage.data
import tensorflow as tf

from pwc_exp import checkpoints
from pwc_exp.build import build_model
from pwc_exp.cli import check_places
from pwc_exp.config.commands import Output
from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import write_flo, write_flo5, write_kitti_png, write_npy, write_pfm
from pwc_exp.errors import ConfigError, DataError, MissingExtraError, MissingInputError
from pwc_exp.evaluation.evaluator import evaluate
from pwc_exp.evaluation.flow_sources import (
    SUFFIXES,
    ExportedFlow,
    FlowFiles,
    Pairs,
    _grey,
    build_flow_sources,
)
from pwc_exp.export.formats import export

DATA = ("data=synthetic", "data.crop=[32,48]")
WRITERS = {
    ".flo": write_flo,
    ".flo5": write_flo5,
    ".npy": write_npy,
    ".pfm": write_pfm,
    ".png": write_kitti_png,
}
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


def pairs_of(*ids: str, size: tuple[int, int] = (4, 6)) -> Pairs:
    frames = np.zeros((len(ids), *size, 3), np.float32)
    return Pairs(ids, frames, frames)


def test_every_exact_format_of_predict_is_read() -> None:
    assert {"flo", "npy", "flo5", "pfm", "kitti"} <= set(Output)
    assert set(WRITERS) == set(SUFFIXES)


@pytest.mark.parametrize("suffix", WRITERS)
def test_files_of_every_format_have_the_same_flow(suffix: str, tmp_path: Path) -> None:
    flows = np.random.default_rng(0).integers(-640, 640, (2, 4, 6, 2)) / np.float32(64)
    for number, flow in enumerate(flows):
        path = tmp_path / f"clean/{number}{suffix}"
        path.parent.mkdir(exist_ok=True)
        WRITERS[suffix](path, flow)
    found = FlowFiles(tmp_path, {"clean/0": None, "clean/1": None})
    np.testing.assert_array_equal(found.estimate(pairs_of("clean/1", "clean/0")), flows[::-1])
    assert not found.computes


def test_a_file_is_named_by_its_sample_alone_or_after_a_prefix(tmp_path: Path) -> None:
    def first() -> float:
        return float(FlowFiles(tmp_path, {"45_10": None}).estimate(pairs_of("45_10"))[0, 0, 0, 0])

    with pytest.raises(MissingInputError, match=r"must hold 45_10.flo, .flo5.*or .png.*d: none"):
        first()
    write_npy(tmp_path / "LK_45_10.npy", np.full((4, 6, 2), 1, np.float32))
    assert first() == 1
    write_flo(tmp_path / "other_45_10.flo", np.full((4, 6, 2), 2, np.float32))
    with pytest.raises(MissingInputError, match=r"several \(LK_45_10.npy, other_45_10.flo\)"):
        first()
    write_kitti_png(tmp_path / "45_10.png", np.full((4, 6, 2), 3, np.float32))
    assert first() == 3
    write_flo(tmp_path / "45_10.flo", np.full((4, 6, 2), 4, np.float32))  # PNG rounds: it is last
    assert first() == 4
    write_flo(tmp_path / "named.flo", np.full((4, 6, 2), 5, np.float32))
    named = FlowFiles(tmp_path, {"45_10": "named.flo"}).estimate(pairs_of("45_10"))
    assert (named == 5).all()


def test_gaps_and_other_sizes_are_refused(tmp_path: Path) -> None:
    known = np.ones((4, 6), np.float32)
    known[0, :2] = 0
    write_flo(tmp_path / "a.flo", np.ones((4, 6, 2), np.float32), known)
    source = FlowFiles(tmp_path, {"a": None})
    with pytest.raises(DataError, match=r"a.flo must hold a flow .*Received: 2 gaps"):
        source.estimate(pairs_of("a"))
    assert source.estimate(pairs_of("a")._replace(needed=known[None])).shape == (1, 4, 6, 2)
    with pytest.raises(DataError, match=r"size of the frames, 6 x 4 .*Received: 4 x 6"):
        source.estimate(pairs_of("a", size=(6, 4)))


def test_an_export_gets_bytes_and_says_its_runtime(tmp_path: Path) -> None:
    def run(frame1: np.ndarray, frame2: np.ndarray) -> np.ndarray:
        assert frame1.dtype == frame2.dtype == np.uint8
        return frame1[..., :2].astype(np.float32)

    source = ExportedFlow(run, runtime="ONNX Runtime", folder=tmp_path / "onnx")
    frames = np.full((1, 4, 6, 3), 128 / 255, np.float32)
    assert (source.estimate(Pairs(["a"], frames, frames)) == 128).all()
    assert source.label == "onnx" and source.about["runtime"] == "ONNX Runtime"


@pytest.mark.slow
def test_an_exported_network_has_the_errors_of_the_network(
    configure: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    config = configure("train", "model=tiny", "data.crop=[32,48]")
    keras.utils.set_random_seed(4)
    state = checkpoints.named_state(build_model(config.model, config.precision))
    path = checkpoints.save(tmp_path / "run", step=3, state=state, metrics={}, fingerprint={})
    weights = ("model=tiny", f"weights={path}")
    export(configure("export", *weights, "formats=[onnx]", f"out={tmp_path}/export"))
    sources = (*weights, f"exported={tmp_path}/export/onnx", "xla=false", "pictures=0")
    scenes = (*DATA, "data.val_size=2", "split=val")
    evaluate(configure("evaluate", *scenes, *sources, f"out={tmp_path}/out"))
    found = [json.loads(file.read_text())["aepe"] for file in tmp_path.glob("out/*/metrics.json")]
    assert len(found) == 2 and found[0] == pytest.approx(found[1], abs=1e-3)


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
    with pytest.raises(MissingExtraError, match="pip install 'opencv-python-headless"):
        check_places(config, tmp_path)
    with pytest.raises(MissingExtraError, match="pip install 'opencv-python-headless"):
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
