"""The Python API: the flow of the command, from arrays; and lines that say what is wrong."""

import doctest
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from small_runs import COMPLETE
from test_pretrained import ship

import pwc_exp
from pwc_exp import pretrained
from pwc_exp.build import build_model
from pwc_exp.data.formats.images import read_frame, write_image
from pwc_exp.flow.colour import flow_to_colour
from pwc_exp.flow.resize import upsample
from pwc_exp.prediction.command import predict

ROOT = Path(__file__).parents[1]
HEIGHT, WIDTH = 30, 45


def image(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def weights(configure: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of a very small network, with their card."""
    config = configure("train", *COMPLETE)
    keras.utils.set_random_seed(6)
    model = build_model(config.model, config.precision)
    # Of slow motion, so that the flows of both directions agree somewhere.
    model.set_weights([0.5 * value for value in model.get_weights()])
    return ship(model, configure, tmp_path_factory.mktemp("weights") / "small.safetensors")


@pytest.fixture(scope="module")
def net(weights: Path) -> pwc_exp.FlowNetwork:
    return pwc_exp.load(weights, "fp32", batch_size=2)


def test_importing_the_package_imports_no_library() -> None:
    program = "import sys, pwc_exp; sys.exit(bool({'numpy', 'tensorflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_the_flow_and_the_occlusion_are_those_of_the_command(
    net: pwc_exp.FlowNetwork, weights: Path, configure: Callable[..., Any], tmp_path: Path
) -> None:
    frames = image(1), image(2)
    for name, frame in zip("ab", frames, strict=True):
        write_image(tmp_path / f"{name}.png", frame)
    asked = f"frames=[{tmp_path}/a.png,{tmp_path}/b.png]", f"out={tmp_path}/out", "precision=fp32"
    predict(configure("predict", f"weights={weights}", *asked, "outputs=[flo,occlusion]"))
    flow, known = pwc_exp.read_flow(tmp_path / "out/a.flo")
    assert known.all() and np.abs(flow).max() > 0.01
    np.testing.assert_allclose(net(*frames), flow, atol=1e-3)
    hidden = read_frame(tmp_path / "out/a_occlusion.png")[..., 0] > 0
    assert 0 < hidden.mean() < 1
    np.testing.assert_array_equal(net.occlusion(*frames), hidden)


def test_batches_floats_and_grey_frames_mean_the_same(net: pwc_exp.FlowNetwork) -> None:
    first, second = (np.stack([image(seed + n) for n in range(3)]) for seed in (1, 11))
    flows = net(first, second)
    assert flows.shape == (3, HEIGHT, WIDTH, 2) and flows.dtype == np.float32
    np.testing.assert_allclose(flows[2], net(first[2], second[2]), atol=1e-4)
    np.testing.assert_allclose(flows[2], net(first[2] / 255, second[2] / 255), atol=1e-4)
    assert net.occlusion(first, second).shape == (3, HEIGHT, WIDTH)
    assert {level: flow.shape for level, flow in net.levels(first, second).items()} == {
        3: (3, 4, 6, 2),
        2: (3, 8, 12, 2),
    }
    grey1, grey2 = first[0, ..., 0], second[0, ..., 0]
    colour = [np.repeat(grey[..., None], 3, axis=-1) for grey in (grey1, grey2)]
    np.testing.assert_array_equal(net(grey1, grey2), net(*colour))


def test_the_finest_level_enlarged_is_the_flow(net: pwc_exp.FlowNetwork) -> None:
    frames = image(1, 32, 48), image(2, 32, 48)
    levels = net.levels(*frames)
    assert list(levels) == [3, 2]
    enlarged = upsample(levels[2][None], 4, alignment=net.model.upsample_alignment)[0]
    np.testing.assert_allclose(enlarged, net(*frames), atol=1e-4)


NAN = np.where(np.arange(WIDTH * 3).reshape(WIDTH, 3) == 7, np.nan, 0.5)[None].repeat(HEIGHT, 0)


@pytest.mark.parametrize(
    ("frame", "received"),
    [
        (image(1)[:20], r"one size. Received: \(20, 45, 3\) and \(30, 45, 3\)"),
        (image(1)[None], r"one size. Received: \(1, 30, 45, 3\)"),
        (image(1).astype(np.int64), r"Received: int64 \(30, 45, 3\)"),
        (image(1).astype(np.float32), r"Received: float32 from 0.0 to 255.0"),
        (image(1)[..., :2], r"\[B, H, W, 3\]. Received: uint8 \(30, 45, 2\)"),
        (image(1)[:0], r"Received: uint8 \(0, 45, 3\)"),
        (NAN, "without NaN. Received: float64 from nan to nan"),
        ("a.png", r"frame1 must be uint8.*Received: <U5 \(\)"),
    ],
)
def test_frames_that_do_not_fit_are_refused(
    net: pwc_exp.FlowNetwork, frame: Any, received: str
) -> None:
    for call in (net, net.levels, net.occlusion):
        with pytest.raises(ValueError, match=received):
            call(frame, image(2))


def test_weights_that_are_not_there_and_unknown_precisions_are_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder: nowhere. Shipped"):
        pwc_exp.load("nowhere")
    with pytest.raises(ValueError, match="weights must be given"):
        pwc_exp.load()
    with pytest.raises(ValueError, match="precision must be one of auto, fp32, fp16, bf16"):
        pwc_exp.load(weights, "half")
    with pytest.raises(ValueError, match="batch_size must be positive. Received: 0"):
        pwc_exp.load(weights, batch_size=0)


def test_loading_in_another_precision_leaves_that_of_the_caller(weights: Path) -> None:
    net = pwc_exp.load(weights, "bf16")
    assert net.model.dtype_policy.name == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("suffix", [".flo", ".npy", ".png", ".flo5", ".pfm"])
def test_the_suffix_is_the_format_and_unknown_pixels_are_kept(suffix: str, tmp_path: Path) -> None:
    flow = np.arange(24, dtype=np.float32).reshape(3, 4, 2)
    known = np.arange(12).reshape(3, 4) != 5
    pwc_exp.write_flow(f"{tmp_path}/a{suffix}", flow, known)
    read, valid = pwc_exp.read_flow(f"{tmp_path}/a{suffix}")
    np.testing.assert_array_equal(valid, known)
    np.testing.assert_array_equal(read, np.where(known[..., None], flow, 0))


def test_the_picture_is_in_middleburys_colours() -> None:
    flow = np.random.default_rng(1).normal(size=(5, 7, 2))
    picture = pwc_exp.flow_to_image(flow, max_speed=2)
    np.testing.assert_array_equal(picture, flow_to_colour(flow, max_speed=2))


def test_warping_moves_an_image_back_and_keeps_its_kind() -> None:
    flow = np.broadcast_to(np.array([2.0, 1.0]), (HEIGHT, WIDTH, 2))
    for frame in (image(1), image(1)[..., 0], image(1) / 255):
        warped = pwc_exp.warp(frame, flow)
        assert warped.shape == frame.shape and warped.dtype == frame.dtype
        np.testing.assert_allclose(warped[:-1, :-2], frame[1:, 2:], atol=1e-6)
    both = pwc_exp.warp(np.stack([image(1), image(2)]), np.stack([flow, 0 * flow]), border="zero")
    np.testing.assert_array_equal(both[1], image(2))
    assert not both[0, -1].any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pwc_exp.warp(image(1), np.zeros((2, 3, 2))), r"same size.*\(30, 45, 3\) and"),
        (lambda: pwc_exp.warp(np.zeros((2, 3), int), np.zeros((2, 3, 2))), "Received: int64"),
        (lambda: pwc_exp.warp(np.zeros((2, 3)), np.full((2, 3, 2), np.nan)), "flow must be finite"),
        (lambda: pwc_exp.flow_to_image(np.zeros((2, 3))), r"\[H, W, 2\]. Received: float64"),
        (lambda: pwc_exp.flow_to_image(np.zeros((2, 3, 2)), valid=[1]), "valid must be"),
        (lambda: pwc_exp.write_flow("a.exr", np.zeros((2, 3, 2))), "path must end in one of .flo"),
        (lambda: pwc_exp.write_flow("a.flo", np.zeros((2, 3))), "flow must be numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_examples_of_the_page_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a.png", "b.png")):
        write_image(tmp_path / name, image(seed, 90, 120))
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    examples = re.sub("^```.*$", "", page, flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(examples, {}, "api.md", "docs/api.md", 0)
    assert len(test.examples) > 10
    assert doctest.DocTestRunner().run(test).failed == 0
