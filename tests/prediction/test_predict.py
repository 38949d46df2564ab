"""The command with a network: its files hold that network's flow."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_runs import COMPLETE

from pwc_exp import checkpoints
from pwc_exp.build import build_model
from pwc_exp.data.formats.images import read_frame, write_image
from pwc_exp.data.formats.io import read_flow
from pwc_exp.flow.colour import flow_to_colour
from pwc_exp.prediction.command import predict


def test_the_files_hold_the_networks_flow_and_its_picture(
    configure: Callable[..., Any], tmp_path: Path
) -> None:
    config = configure("train", *COMPLETE)
    keras.utils.set_random_seed(6)
    model = build_model(config.model, config.precision)
    state = checkpoints.named_state(model)
    place = checkpoints.save(tmp_path / "w", step=0, state=state, metrics={}, fingerprint={})
    rng = np.random.default_rng(1)
    frames = [tmp_path / f"{name}.png" for name in "abc"]
    for frame in frames:
        write_image(frame, rng.integers(0, 256, (30, 45, 3), np.uint8))
    out = tmp_path / "deep/out"
    names = ",".join(map(str, frames))
    places = (f"weights={place}", f"frames=[{names}]", f"out={out}")
    predict(configure("predict", *COMPLETE, *places, "direction=both", "max_speed=2"))
    for first, second in (frames[:2], frames[1:]):
        pair = [tf.constant(read_frame(frame)[None]) for frame in (first, second)]
        for middle, order in (("", pair), ("_backward", pair[::-1])):
            flow, known = read_flow(out / f"{first.stem}{middle}.flo")
            assert known.all()
            assert np.abs(flow).max() > 0.01
            np.testing.assert_allclose(flow, model.estimate(*order)[0], atol=1e-4)
            picture = read_frame(out / f"{first.stem}{middle}_flow.png")
            expected = flow_to_colour(flow, max_speed=2)
            np.testing.assert_allclose(picture * 255, expected, atol=1)


def test_the_command_gives_the_flow_that_the_original_gives(
    shared: Path,
    configure: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
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
    places = (f"weights={prefix}", f"frames={tmp_path}/?.png", f"out={tmp_path}/out")
    predict(configure("predict", "model=sm", *places))
    assert f"{tmp_path}/out/a.flo" in capsys.readouterr().out
    np.testing.assert_allclose(read_flow(tmp_path / "out/a.flo")[0], expected, atol=1e-3)
    assert read_frame(tmp_path / "out/a_flow.png").shape == (256, 448, 3)
