"""The graph operations give what the Python readers give, bit for bit, mostly without Python."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from encoded import (
    HEIGHT,
    WIDTH,
    bmp,
    flo,
    flo5,
    jpeg,
    kitti,
    npy,
    pfm,
    png,
    ppm,
    raw_png,
    some_flow,
    some_image,
)

from pwc_exp.data.formats import images, io
from pwc_exp.data.formats.headers import MAX_PIXELS
from pwc_exp.data.formats.images import read_frame, read_mask
from pwc_exp.data.formats.io import read_flow
from pwc_exp.errors import DataError

GREY, DEEP = some_image(1), some_image(3, np.uint16)
MASK = (some_image(1) > 100).astype(np.uint8)
UNKNOWN = some_flow()
UNKNOWN[0, 1, 0], UNKNOWN[1, 4, 1], UNKNOWN[2, 0], UNKNOWN[2, 2] = np.nan, 1e9, -np.inf, -0.0

FAST_FRAMES = {
    "png": png(some_image()),
    "png, grey": png(GREY),
    "png, 16-bit": png(DEEP),
    "png, 16-bit grey": png(some_image(1, np.uint16)),
    "png, single bits": raw_png(b"\0\xa8\0\x50\0\xf8", bits=1, colour=0),
    "jpeg": jpeg(some_image()),
    "jpeg, grey": jpeg(GREY),
    "ppm": ppm(some_image()),
    "ppm, header in one line": ppm(some_image(), b"P6 5 3 255 "),
    "pgm": ppm(GREY, b"P5\n5 3\n255\n"),
    "ppm, pixels like a header": ppm(np.full_like(some_image(), 10)),
}
RARE_FRAMES = {
    "png, alpha": png(some_image(4)),
    "bmp": bmp(some_image()),
    "ppm, comment": ppm(some_image(), b"P6 # made by x\n5 3\n255\n"),
    "ppm, vertical tab": ppm(some_image(), b"P6\x0b5 3\n255\n"),
    "ppm, largest value 254": ppm(some_image() % 255, b"P6\n5 3\n254\n"),
    "ppm, 16-bit": ppm(DEEP, b"P6\n5 3\n65535\n"),
}
FAST_FLOWS = {
    "flo": flo(some_flow()),
    "flo, unknown": flo(UNKNOWN),
    "pfm": pfm(some_flow()),
    "pfm, unknown": pfm(UNKNOWN),
    "pfm, big-endian": pfm(UNKNOWN, b"PF\n5 3\n1\n", ">"),
    "kitti": kitti(some_flow()),
}
RARE_FLOWS = {
    "pfm, scale 2": pfm(UNKNOWN, b"PF\n5 3\n-2.0\n"),
    "pfm, lines of Windows": pfm(UNKNOWN, b"PF\r\n5 3\r\n-1.0\r\n"),
    "flo5": flo5(UNKNOWN),
    "npy": npy(UNKNOWN),
}
FAST_MASKS = {"png": png(MASK), "png, colours": png(some_image() // 128)}
RARE_MASKS = {
    "npy": npy(MASK[..., 0]),
    "npy, bool": npy(MASK[..., 0] > 0),
    "pgm": ppm(MASK, b"P5 5 3 1 "),
}

Compiled = Any  # of TensorFlow, which states no types


def compiled(function: Callable[..., Any]) -> Compiled:
    return tf.function(function, input_signature=[tf.TensorSpec([], tf.string)])


frame, flow, mask = (compiled(f) for f in (images.graph_frame, io.graph_flow, images.graph_mask))
KINDS: dict[str, tuple[Compiled, Callable[[Path], Any], dict[str, bytes]]] = {
    "frame": (frame, read_frame, FAST_FRAMES | RARE_FRAMES),
    "flow": (flow, read_flow, FAST_FLOWS | RARE_FLOWS),
    "mask": (mask, read_mask, FAST_MASKS | RARE_MASKS),
}


def assert_same(received: Any, expected: Any, name: object = None) -> None:
    """Equal in dtype, shape and every bit; tells -0 from 0."""
    both = [
        value if isinstance(value, (tuple, list)) else [value] for value in (received, expected)
    ]
    for tensor, array in zip(*both, strict=True):
        assert tensor.numpy().dtype == array.dtype
        assert tensor.shape == array.shape
        assert tensor.numpy().tobytes() == array.tobytes(), name


@pytest.mark.parametrize("kind", KINDS)
def test_graph_and_python_agree_to_the_bit(kind: str, tmp_path: Path) -> None:
    graph, read, files = KINDS[kind]
    paths = [tmp_path / name for name in files]
    for path in paths:
        path.write_bytes(files[path.name])
    # A division by a constant was seen to differ in a compiled function only.
    mapped = tf.data.Dataset.from_tensor_slices(list(map(str, paths))).map(graph.python_function)
    for path, in_pipeline in zip(paths, mapped, strict=True):
        expected = read(path)
        assert_same(graph(str(path)), expected, path.name)
        assert_same(in_pipeline, expected, path.name)


@pytest.mark.parametrize("value", ["grey", "deep"])
def test_every_stored_number_is_scaled_as_in_python(value: str, tmp_path: Path) -> None:
    count, dtype = (256, np.uint8) if value == "grey" else (65536, np.uint16)
    path = tmp_path / "a.png"
    path.write_bytes(png(np.arange(count).astype(dtype).reshape(-1, 16, 1)))
    assert_same(frame(str(path)), read_frame(path))


def test_common_formats_need_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise DataError(f"asked to read {path}")

    for module, reader in ((images, "read_frame"), (io, "read_flow"), (images, "read_mask")):
        monkeypatch.setattr(module, reader, refuse)
    fast = {"frame": FAST_FRAMES, "flow": FAST_FLOWS, "mask": FAST_MASKS}
    for kind, (graph, read, files) in KINDS.items():
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
            if name in fast[kind]:
                assert_same(graph(str(tmp_path / name)), read(tmp_path / name))
            else:
                with pytest.raises(tf.errors.OpError, match="asked to read"):
                    graph(str(tmp_path / name))


@pytest.mark.parametrize(
    "content",
    [
        raw_png(b"", width=MAX_PIXELS, height=1),
        raw_png(b"", width=2**16 + 1, height=2**16),
        raw_png(b"", width=2000, height=2000),
        jpeg(some_image()).replace(
            struct.pack(">HH", HEIGHT, WIDTH), struct.pack(">HH", 60000, 999)
        ),
        ppm(some_image(), b"P6\n9999 9999\n255\n"),
        ppm(some_image(), b"P6\n0 3\n255\n"),
    ],
    ids=["png", "png, above the limit", "png, within it", "jpeg", "ppm", "ppm, nothing"],
)
def test_a_declared_size_that_the_file_cannot_hold_is_left_to_python(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bomb").write_bytes(content)
    asked: list[Path] = []

    def read(path: Path) -> np.ndarray:
        asked.append(path)
        return read_frame(path)

    monkeypatch.setattr(images, "read_frame", read)
    with pytest.raises(tf.errors.OpError, match="bomb"):
        frame(str(tmp_path / "bomb"))
    assert asked == [tmp_path / "bomb"]


def test_shapes_are_static_as_far_as_they_are_known() -> None:
    outputs = [
        function.get_concrete_function().structured_outputs for function in (frame, flow, mask)
    ]
    assert outputs[0].shape.as_list() == [None, None, 3]
    assert [tensor.shape.as_list() for tensor in outputs[1]] == [[None, None, 2], [None, None]]
    assert outputs[2].shape.as_list() == [None, None]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    for graph in (frame, flow, mask):
        with pytest.raises(tf.errors.OpError, match="absent"):
            graph(str(tmp_path / "absent.png"))


def test_real_files_are_decoded_as_python_reads_them(shared: Path) -> None:
    frames = [*shared.glob("data/**/*.ppm"), *shared.glob("data/**/*.png")]
    flows = [*shared.glob("data/**/*.flo"), *shared.glob("data/**/flow_*/*.png")]
    for path in frames:
        assert_same(frame(str(path)), read_frame(path), path)
    for path in flows:
        assert_same(flow(str(path)), read_flow(path), path)
    assert len(frames) > 40
    assert len(flows) > 10
