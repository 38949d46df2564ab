"""Frames and masks on disk: one rule makes each RGB in [0, 1], in Python and in a graph."""

import logging
import os
import struct
from collections.abc import Callable
from functools import partial
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from encoded import (
    HEIGHT,
    WIDTH,
    assert_graph_agrees,
    assert_same,
    bmp,
    jpeg,
    npy,
    png,
    ppm,
    raw_png,
    some_image,
)

from pwc_exp.data.formats import headers, images
from pwc_exp.data.formats.images import (
    graph_frame,
    graph_mask,
    inspect_frame,
    inspect_mask,
    read_frame,
    read_mask,
    write_image,
)
from pwc_exp.errors import DataError

RGB, GREY, ALPHA = some_image(), some_image(1), some_image(4)
DEEP, DEEP_GREY = some_image(3, np.uint16), some_image(1, np.uint16)
TENS = some_image() % 11

MASK = (GREY > 100).astype(np.uint8)

COMMON = {
    "png": (png(RGB), RGB / 255),
    "png, grey": (png(GREY), GREY / 255),
    "png, 16-bit": (png(DEEP), DEEP / 65535),
    "png, 16-bit grey": (png(DEEP_GREY), DEEP_GREY / 65535),
    "ppm": (ppm(RGB), RGB / 255),
    "ppm, header in one line": (ppm(RGB, b"P6 5 3 255 "), RGB / 255),
    "ppm, comments": (ppm(RGB, b"P6 # made by x\n#\n5\t3 # size\n255\n"), RGB / 255),
    "ppm, pixels like a header": (ppm(np.full_like(RGB, 10)), np.full_like(RGB, 10) / 255),
    "pgm": (ppm(GREY, b"P5\n5 3\n255\n"), GREY / 255),
}
RARE = {
    "png, grey and alpha": (png(some_image(2)), some_image(2)[..., :1] / 255),
    "png, alpha": (png(ALPHA), ALPHA[..., :3] / 255),
    "bmp": (bmp(RGB), RGB / 255),
    "ppm, largest value 10": (ppm(TENS, b"P6\n5 3\n10\n"), TENS / 10),
    "ppm, 16-bit": (ppm(DEEP, b"P6\n5 3\n65535\n"), DEEP / 65535),
    "pgm, 16-bit": (ppm(DEEP_GREY, b"P5 5 3 65535\n"), DEEP_GREY / 65535),
}
READABLE = COMMON | RARE
MASKS = {
    "png": png(MASK),
    "png, colours": png(RGB // 128),
    "npy": npy(MASK[..., 0]),
    "npy, bool": npy(MASK[..., 0] > 0),
    "pgm": ppm(MASK, b"P5 5 3 1 "),
}


@pytest.mark.parametrize(("content", "expected"), READABLE.values(), ids=READABLE.keys())
def test_every_format_becomes_rgb_in_0_to_1(
    content: bytes, expected: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "frame"
    path.write_bytes(content)
    frame = read_frame(path)
    assert frame.shape == (HEIGHT, WIDTH, 3)
    assert frame.dtype == np.float32
    np.testing.assert_allclose(frame, np.broadcast_to(expected, frame.shape), atol=1e-7)
    assert inspect_frame(path) == (HEIGHT, WIDTH)


def test_jpeg_is_read_up_to_its_own_loss(tmp_path: Path) -> None:
    image = np.tile(np.arange(0, 160, 10, dtype=np.uint8)[:, None, None], (1, 24, 3))
    (tmp_path / "a.jpg").write_bytes(jpeg(image))
    np.testing.assert_allclose(read_frame(tmp_path / "a.jpg"), image / 255, atol=0.02)
    assert inspect_frame(tmp_path / "a.jpg") == (16, 24)


def test_palettes_and_single_bits_are_looked_up(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    colours = image.fromarray(RGB).quantize(6)
    colours.save(tmp_path / "palette.png", transparency=2)
    np.testing.assert_allclose(
        read_frame(tmp_path / "palette.png"), np.asarray(colours.convert("RGB")) / 255, atol=1e-7
    )
    image.fromarray(RGB).convert("1").save(tmp_path / "bits.png")
    assert set(np.unique(read_frame(tmp_path / "bits.png"))) == {0, 1}


def test_dropped_alpha_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images._warn_of_dropped_alpha.cache_clear()
    (tmp_path / "a.png").write_bytes(png(ALPHA))
    with caplog.at_level(logging.WARNING):
        read_frame(tmp_path / "a.png")
        read_frame(tmp_path / "a.png")
    assert len(caplog.records) == 1


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="Not a regular file"):
        read_frame(tmp_path / "pipe.png")


@pytest.mark.parametrize("encode", [png, partial(ppm, header=b"P6 400 500 255\n")])
def test_inspection_does_not_read_the_pixels(
    encode: Callable[[np.ndarray], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 400, 3)).astype(np.uint8)
    (tmp_path / "frame").write_bytes(encode(noise))
    received = []

    class Counted(FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            received.append(len(content := super().read(size)))
            return content

    monkeypatch.setattr(headers, "FileIO", Counted)
    assert inspect_frame(tmp_path / "frame") == (500, 400)
    assert 0 < sum(received) < 100_000


def test_inspection_misses_the_data_of_a_png(tmp_path: Path) -> None:
    content = png(RGB)
    (tmp_path / "a.png").write_bytes(content[:33] + content[-12:])
    with pytest.raises(DataError, match="a.png. Expected PNG chunks"):
        inspect_frame(tmp_path / "a.png")


def test_written_picture_is_read_back_exactly(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", RGB)
    np.testing.assert_array_equal(np.round(read_frame(tmp_path / "a.png") * 255), RGB)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_mask_is_an_image_or_npy_that_is_not_zero_where_it_is_true(tmp_path: Path) -> None:
    mask: np.ndarray = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[1, 4] = 1
    contents = [png(mask[..., None]), npy(mask), npy(mask > 0), npy(np.asfortranarray(mask))]
    for number, content in enumerate(contents):
        path = tmp_path / f"mask {number}"
        path.write_bytes(content)
        np.testing.assert_array_equal(read_mask(path), mask > 0)
        assert inspect_mask(path) == (HEIGHT, WIDTH)


def test_mask_of_other_numbers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mask.npy").write_bytes(npy(np.zeros((HEIGHT, WIDTH), np.float32)))
    for read in (read_mask, inspect_mask):
        with pytest.raises(DataError, match=r"mask.npy. Expected uint8 or bool \[H, W\]"):
            read(tmp_path / "mask.npy")


def test_a_png_as_dense_as_deflate_can_be_is_read(tmp_path: Path) -> None:
    content = raw_png(bytes(1000 * 1001), width=1000, height=1000, colour=0)
    assert len(content) < 1200
    (tmp_path / "black.png").write_bytes(content)
    assert inspect_frame(tmp_path / "black.png") == read_frame(tmp_path / "black.png").shape[:2]


def test_bytes_that_cameras_add_are_no_damage(tmp_path: Path) -> None:
    content = jpeg(RGB)
    segment = b"\xff\xe5" + struct.pack(">H", 60_000) + bytes(59_998)
    for number, changed in enumerate(
        [
            content + bytes(100_000),  # a film
            content[:2] + segment * 2 + content[2:],  # metadata before the size
            content[:20] + b"stray\xff" + content[20:],  # between two segments
        ]
    ):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(changed)
        assert inspect_frame(path) == (HEIGHT, WIDTH)
        assert read_frame(path).shape == (HEIGHT, WIDTH, 3)


def test_a_graph_reads_what_python_reads(tmp_path: Path) -> None:
    frames = {name: content for name, (content, _) in READABLE.items()}
    frames |= {"jpeg": jpeg(RGB), "jpeg, grey": jpeg(GREY)}
    frames["png, single bits"] = raw_png(b"\0\xa8\0\x50\0\xf8", bits=1, colour=0)
    for bits, dtype in ((8, np.uint8), (16, np.uint16)):  # every number that can be stored
        numbers = np.arange(2**bits).astype(dtype).reshape(-1, 16, 1)
        frames[f"{bits} bits"] = png(numbers)
    assert_graph_agrees(graph_frame, read_frame, frames, tmp_path)
    assert_graph_agrees(graph_mask, read_mask, MASKS, tmp_path)
    with pytest.raises(tf.errors.OpError, match="absent"):
        graph_frame(str(tmp_path / "absent.png"))


def test_pixels_of_common_formats_are_decoded_without_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("read_frame", "read_mask"):
        monkeypatch.setattr(images, name, lambda path: pytest.fail(f"asked to read {path}"))
    for name, (content, _) in (COMMON | {"jpeg": (jpeg(RGB), None)}).items():
        (tmp_path / name).write_bytes(content)
        assert_same(graph_frame(str(tmp_path / name)), read_frame(tmp_path / name), name)
    (tmp_path / "mask").write_bytes(MASKS["png"])
    assert_same(graph_mask(str(tmp_path / "mask")), MASK[..., 0] > 0)


def test_real_frames_are_decoded_as_python_reads_them(shared: Path) -> None:
    frames = [*shared.glob("data/**/*.ppm"), *shared.glob("data/**/*.png")]
    for path in frames:
        assert_same(graph_frame(str(path)), read_frame(path), path)
    assert len(frames) > 40
