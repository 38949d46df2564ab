"""Frames on disk: one rule makes each of them RGB in [0, 1], and a damaged one is named."""

import logging
import os
import struct
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
from encoded import HEIGHT, WIDTH, bmp, jpeg, npy, png, ppm, raw_png, some_image

from pwc_exp.data.formats import images
from pwc_exp.data.formats.headers import MAX_PIXELS
from pwc_exp.data.formats.images import (
    inspect_frame,
    inspect_mask,
    read_frame,
    read_mask,
    write_image,
)
from pwc_exp.errors import DataError, MissingInputError

RGB, GREY, ALPHA = some_image(), some_image(1), some_image(4)
DEEP, DEEP_GREY = some_image(3, np.uint16), some_image(1, np.uint16)
TENS = some_image() % 11

READABLE = {
    "png": (png(RGB), RGB / 255),
    "png, grey": (png(GREY), GREY / 255),
    "png, grey and alpha": (png(some_image(2)), some_image(2)[..., :1] / 255),
    "png, alpha": (png(ALPHA), ALPHA[..., :3] / 255),
    "png, 16-bit": (png(DEEP), DEEP / 65535),
    "png, 16-bit grey": (png(DEEP_GREY), DEEP_GREY / 65535),
    "bmp": (bmp(RGB), RGB / 255),
    "ppm": (ppm(RGB), RGB / 255),
    "ppm, comments": (ppm(RGB, b"P6 # made by x\n#\n5\t3 # size\n255\n"), RGB / 255),
    "ppm, largest value 10": (ppm(TENS, b"P6\n5 3\n10\n"), TENS / 10),
    "ppm, 16-bit": (ppm(DEEP, b"P6\n5 3\n65535\n"), DEEP / 65535),
    "pgm": (ppm(GREY, b"P5\n5 3\n255\n"), GREY / 255),
    "pgm, 16-bit": (ppm(DEEP_GREY, b"P5 5 3 65535\n"), DEEP_GREY / 65535),
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


def with_png_size(width: int, height: int) -> bytes:
    content = bytearray(png(RGB))
    content[16:24] = struct.pack(">II", width, height)
    return bytes(content)


MALFORMED = {
    "empty": b"",
    "html": b"<html>404</html>",
    "svg named png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0",
    "gif": b"GIF89a" + bytes(40),
    "tiff": b"II*\0" + bytes(40),
    "png, magic only": png(RGB)[:8],
    "png, header only": png(RGB)[:33],
    "png, damaged data": png(RGB)[:45] + b"\xff" * 10 + png(RGB)[55:],
    "png, no IHDR": png(RGB)[:8] + b"\0\0\0\x0dJUNK" + png(RGB)[16:],
    "png, bomb": with_png_size(2**31 - 1, 2**31 - 1),
    "png, just over the limit": with_png_size(MAX_PIXELS // 1024 + 1, 1024),
    "png, width 0": with_png_size(0, 3),
    "jpeg, start only": jpeg(RGB)[:20],
    "jpeg, truncated": jpeg(some_image())[:-30],
    "jpeg, no size": b"\xff\xd8\xff\xd9",
    "bmp, truncated": bmp(RGB)[:-1],
    "bmp, header only": bmp(RGB)[:54],
    "bmp, half a header": bmp(RGB)[:20],
    "bmp, palette": bmp(RGB, bits=8),
    "bmp, compressed": bmp(RGB, compression=1),
    "ppm, truncated": ppm(RGB)[:-1],
    "ppm, one byte long": ppm(RGB) + b"\0",
    "ppm, text": b"P3\n1 1\n255\n1 2 3\n",
    "ppm, bitmap": b"P4\n8 1\n\0",
    "ppm, no largest value": b"P6\n5 3\n",
    "ppm, largest value 0": ppm(RGB, b"P6\n5 3\n0\n"),
    "ppm, largest value 65536": ppm(RGB, b"P6\n5 3\n65536\n"),
    "ppm, value above the largest": ppm(np.full_like(RGB, 11), b"P6\n5 3\n10\n"),
    "ppm, negative width": ppm(RGB, b"P6\n-5 3\n255\n"),
    "ppm, width 0": b"P6\n0 3\n255\n",
    "ppm, bomb": ppm(RGB, b"P6\n999999999 999999999\n255\n"),
    "ppm, endless comment": b"P6\n#" + b"a" * 5000,
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_frame_is_refused_in_one_line_with_the_name(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        read_frame(path)
    assert "broken.png" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content", [png(RGB), bmp(RGB), ppm(RGB), jpeg(RGB)], ids=["png", "bmp", "ppm", "jpeg"]
)
def test_no_truncation_of_a_frame_is_accepted(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "frame"
    for length in range(len(content) - 1, -1, -1 - len(content) // 300):
        path.write_bytes(content[:length])
        for read in (read_frame, inspect_frame):
            with pytest.raises(DataError, match="frame"):
                read(path)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="Not a regular file"):
        read_frame(tmp_path / "pipe.png")


def test_a_missing_frame_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="absent.png"):
        inspect_frame(tmp_path / "absent.png")


def test_written_picture_is_read_back_exactly(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", RGB)
    np.testing.assert_array_equal(np.round(read_frame(tmp_path / "a.png") * 255), RGB)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_mask_is_true_where_any_channel_is_not_zero(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    mask[1, 4] = 1
    (tmp_path / "mask.png").write_bytes(png(mask))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), mask[..., 0] > 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_])
def test_mask_may_be_npy(dtype: type, tmp_path: Path) -> None:
    mask: np.ndarray = np.zeros((HEIGHT, WIDTH), dtype)
    mask[1, 4] = 1
    (tmp_path / "mask").write_bytes(npy(mask))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask"), mask > 0)
    (tmp_path / "by columns").write_bytes(npy(np.asfortranarray(mask)))
    np.testing.assert_array_equal(read_mask(tmp_path / "by columns"), mask > 0)
    assert inspect_mask(tmp_path / "mask") == (HEIGHT, WIDTH)


def test_mask_of_other_numbers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mask.npy").write_bytes(npy(np.zeros((HEIGHT, WIDTH), np.float32)))
    for read in (read_mask, inspect_mask):
        with pytest.raises(DataError, match=r"mask.npy. Expected uint8 or bool \[H, W\]"):
            read(tmp_path / "mask.npy")


BOMBS = {
    "png": raw_png(b"", width=3000, height=3000),
    "png, 16-bit": raw_png(b"", width=400, height=400, bits=16),
    "png, single bits": raw_png(b"", width=3000, height=3000, bits=1, colour=0),
    "jpeg": jpeg(RGB).replace(struct.pack(">HH", HEIGHT, WIDTH), struct.pack(">HH", 3000, 3000)),
    "bmp": bmp(RGB).replace(struct.pack("<ii", WIDTH, HEIGHT), struct.pack("<ii", 3000, -3000)),
    "ppm": ppm(RGB, b"P6\n3000 3000\n255\n"),
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS.keys())
def test_a_size_that_the_file_cannot_hold_is_refused_before_decoding(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_decode", lambda *_: pytest.fail("decoded"))
    (tmp_path / "bomb").write_bytes(content)
    for read in (read_frame, inspect_frame, read_mask):
        with pytest.raises(DataError, match="bomb. Expected (at least )?[0-9]+ bytes"):
            read(tmp_path / "bomb")


def test_a_png_as_dense_as_deflate_can_be_is_read(tmp_path: Path) -> None:
    content = raw_png(bytes(1000 * 1001), width=1000, height=1000, colour=0)
    assert len(content) < 1200
    (tmp_path / "black.png").write_bytes(content)
    assert inspect_frame(tmp_path / "black.png") == read_frame(tmp_path / "black.png").shape[:2]


def test_inspection_misses_the_data_of_a_png(tmp_path: Path) -> None:
    content = png(RGB)
    (tmp_path / "a.png").write_bytes(content[:33] + content[-12:])
    with pytest.raises(DataError, match="a.png. Expected PNG chunks"):
        inspect_frame(tmp_path / "a.png")


def test_inspection_does_not_read_the_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 400, 3)).astype(np.uint8)
    paths = []
    for name, content in {"png": png(noise), "ppm": ppm(noise, b"P6 400 500 255\n")}.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(content)
    received = []

    class Counted(FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            received.append(len(content := super().read(size)))
            return content

    monkeypatch.setattr("pwc_exp.data.formats.headers.FileIO", Counted)
    for path in paths:
        received.clear()
        assert inspect_frame(path) == (500, 400)
        assert 0 < sum(received) < 20_000


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
