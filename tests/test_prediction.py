"""The flow of frames as files: named after them, never over them, and the network's own."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from pwc_exp import checkpoints
from pwc_exp.build import build_model
from pwc_exp.data.formats.images import read_frame, write_image
from pwc_exp.data.formats.io import read_flow
from pwc_exp.errors import ConfigError, DataError
from pwc_exp.flow.colour import flow_to_colour
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.prediction import plan, predict

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def weights(
    configure: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[PWCNet, Path]:
    """A tiny network, and its weights on disk."""
    config = configure("train", "model=tiny")
    keras.utils.set_random_seed(6)
    model = build_model(config.model, config.precision)
    state = checkpoints.named_state(model)
    folder = tmp_path_factory.mktemp("weights")
    return model, checkpoints.save(folder, step=0, state=state, metrics={}, fingerprint={})


def write_frame(path: Path, height: int, width: int) -> Path:
    rng = np.random.default_rng(len(path.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, rng.integers(0, 256, (height, width, 3), np.uint8))
    return path


def test_consecutive_frames_make_pairs_named_after_the_first() -> None:
    frames = [Path(f"clip/{name}.png") for name in ("a", "b", "c.1")]
    assert plan(frames, Path("out")) == [
        (frames[0], frames[1], Path("out/a.flo"), Path("out/a_flow.png")),
        (frames[1], frames[2], Path("out/b.flo"), Path("out/b_flow.png")),
    ]


def test_a_folder_stands_for_its_images_by_the_numbers_in_their_names(
    configure: Callable[..., Any], weights: tuple[PWCNet, Path], tmp_path: Path
) -> None:
    for number in (10, 9, 8):
        write_frame(tmp_path / f"clip/frame_{number}.png", 20, 24)
    (tmp_path / "clip/notes.txt").write_text("not a frame")
    out = f"out={tmp_path}/out"
    command = (f"weights={weights[1]}", f"frames=[{tmp_path}/clip]", out)
    predict(configure("predict", "model=tiny", *command))
    written = sorted(path.name for path in (tmp_path / "out").glob("*.flo"))
    assert written == ["frame_8.flo", "frame_9.flo"]


def test_one_frame_alone_is_refused(configure: Callable[..., Any], tmp_path: Path) -> None:
    frame = write_frame(tmp_path / "a.png", 8, 8)
    with pytest.raises(ConfigError, match="at least two files, or a folder"):
        configure("predict", "weights=w", f"frames=[{frame}]", "out=o")


def test_two_frames_with_one_name_are_refused() -> None:
    frames = [Path(name) for name in ("left/1.png", "right/1.png", "left/2.png")]
    with pytest.raises(ConfigError, match="names must differ. Received: 1 twice"):
        plan(frames, Path("out"))
    assert len(plan(frames[1:], Path("out"))) == 1
    assert len(plan(frames[:2], Path("out"))) == 1  # the last frame has no result


def test_a_result_never_replaces_a_frame(tmp_path: Path) -> None:
    frames = [tmp_path / "a.png", tmp_path / "a_flow.png"]
    with pytest.raises(ConfigError, match=r"a_flow.png is one of the frames"):
        plan(frames, tmp_path / "sub/..")
    assert plan(frames, tmp_path / "out")


def test_results_whose_names_meet_are_refused(tmp_path: Path) -> None:
    frames = [tmp_path / name for name in ("a_flow.png", "b.png", "a_flow.jpg", "c.png")]
    with pytest.raises(ConfigError, match="a_flow twice"):
        plan(frames, tmp_path / "out")


def test_the_files_hold_the_networks_flow_and_its_picture(
    weights: tuple[PWCNet, Path], configure: Callable[..., Any], tmp_path: Path
) -> None:
    model, place = weights
    frames = [write_frame(tmp_path / f"{name}.png", 30, 45) for name in ("a", "bb", "ccc")]
    names = ",".join(map(str, frames))
    out = tmp_path / "deep/out"
    predict(
        configure("predict", "model=tiny", f"weights={place}", f"frames=[{names}]", f"out={out}")
    )
    assert sorted(path.name for path in out.iterdir()) == [
        "a.flo",
        "a_flow.png",
        "bb.flo",
        "bb_flow.png",
    ]
    for first, second in (frames[:2], frames[1:]):
        pair = [tf.constant(read_frame(frame)[None]) for frame in (first, second)]
        flow, known = read_flow(out / f"{first.stem}.flo")
        assert known.all()
        assert np.abs(flow).max() > 0.01
        np.testing.assert_allclose(flow, model.estimate(*pair)[0], atol=1e-4)
        picture = read_frame(out / f"{first.stem}_flow.png")
        np.testing.assert_allclose(picture * 255, flow_to_colour(flow), atol=1)


def test_frames_of_two_sizes_are_refused_by_name(
    weights: tuple[PWCNet, Path], configure: Callable[..., Any], tmp_path: Path
) -> None:
    first = write_frame(tmp_path / "a.png", 30, 45)
    second = write_frame(tmp_path / "b.png", 45, 30)
    places = (f"weights={weights[1]}", f"frames=[{first},{second}]", f"out={tmp_path}/out")
    with pytest.raises(DataError, match=r"a.png is 30 x 45, .*b.png.* 45 x 30"):
        predict(configure("predict", "model=tiny", *places))
    assert not list((tmp_path / "out").iterdir())


def test_the_command_gives_the_flow_that_the_original_gives(shared: Path, tmp_path: Path) -> None:
    script = shared / "parity/make_checkpoint.py"
    tensors = runpy.run_path(str(script))["weights"]("sm")
    prefix = tmp_path / "pwcnet.ckpt-1"
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    with np.load(shared / "parity/io_sm_256x448.npz") as file:
        expected = np.squeeze(file["flow_full"])
        for name, key in (("a", "img1"), ("b", "img2")):
            write_image(tmp_path / f"{name}.png", np.squeeze(file[key]))
    out = tmp_path / "out"
    frames = f"frames=[{tmp_path}/a.png,{tmp_path}/b.png]"
    command = [sys.executable, "-m", "pwc_exp.predict", "model=sm", f"weights={prefix}"]
    ended = subprocess.run(
        [*command, frames, f"out={out}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert f"{out}/a.flo" in ended.stdout
    np.testing.assert_allclose(read_flow(out / "a.flo")[0], expected, atol=1e-3)
    assert read_frame(out / "a_flow.png").shape == (256, 448, 3)
