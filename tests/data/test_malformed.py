"""Hundreds of damaged files: each is refused by name, or every number in it is accounted for."""

import io
import struct
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from encoded import (
    FLO_MAGIC,
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
    same,
    some_flow,
    some_image,
)

from pwc_exp.data.formats.headers import DEFLATE_RATIO, MAX_PIXELS
from pwc_exp.data.formats.images import graph_frame, inspect_frame, read_frame
from pwc_exp.data.formats.io import graph_flow, inspect_flow, read_flow
from pwc_exp.errors import UserError

# (width, height); the files hold 5 x 3 pixels
SIZES = [(0, 5), (5, 0), (-5, -3), (-3, 5), (2**30, 2**30), (2**31 - 1, 2**31 - 1), (3, 5), (5, 6)]
SIZES += [(40000, 40000), (2**16, 2**16), (7000, 7000), (70000, 1000), (255, 255)]
ODD_VALUES = [np.nan, -np.inf, 1e9, -1e9, 3e38]
MAGICS = [b"\0\0\0\0", b"GIF8", b"<htm", b"HEIP", b"P3\n5", b"\x80\x02}q"]

# Whether it is right to read these bytes as that.
Check = Callable[[bytes, Any], bool]


class Case(NamedTuple):
    format: str
    content: bytes
    check: Check | None  # None: must be refused
    is_whole: bool = False


class Outcome(NamedTuple):
    case: Case
    path: Path
    result: Any  # what the Python reader returned, or raised
    inspected: Any  # the size that the inspection returned, or what it raised
    decoded: Any  # what the graph returned, or None if it raised
    peak: int  # bytes that the Python reader had allocated at once


def some_odd_flows() -> Iterator[np.ndarray]:
    for value in ODD_VALUES:
        flow = some_flow()
        flow[1, 2, 1] = value
        yield flow


def masked(flow: np.ndarray) -> list[np.ndarray]:
    """The documented rule: what is not finite, or at least 1e9, is unknown and its flow is 0."""
    valid = (np.nan_to_num(np.abs(flow), nan=np.inf) < 1e9).all(axis=-1)
    return [np.where(valid[..., None], flow, 0).astype(np.float32), valid.astype(np.float32)]


def as_written(expected: Any) -> Check:
    """For formats with checksums: either nothing is read, or what was written."""
    return lambda _, result: same(result, expected)


def as_flo(content: bytes, result: Any) -> bool:
    width, height = struct.unpack_from("<ii", content, 4)
    assert len(content) == 12 + 8 * width * height
    flow = np.frombuffer(content, "<f4", offset=12)
    return same(result, masked(flow.reshape(height, width, 2)))


def as_pfm(content: bytes, result: Any) -> bool:
    _, width, height, scale = content.split(maxsplit=4)[:4]
    payload = content[-12 * int(width) * int(height) :]
    rows = np.frombuffer(payload, "<f4" if float(scale) < 0 else ">f4")
    return same(result, masked(rows.reshape(int(height), int(width), 3)[::-1, :, :2]))


def as_npy(content: bytes, result: Any) -> bool:
    return same(result, masked(np.load(io.BytesIO(content), allow_pickle=False)))


def as_ppm(content: bytes, result: Any) -> bool:
    magic, width, height, largest = content.split(maxsplit=4)[:4]
    channels = {b"P5": 1, b"P6": 3}[magic]
    payload = content[-int(width) * int(height) * channels :]
    pixels = np.frombuffer(payload, np.uint8).reshape(int(height), int(width), channels)
    return same(result, np.repeat(pixels, 3 // channels, -1).astype("f4") / np.float32(largest))


def as_jpeg(_: bytes, result: Any) -> bool:
    """A JPEG has no checksum: what is damaged in the middle may be read as other pixels."""
    return bool(result.shape[2] == 3 and result.min() >= 0 and result.max() <= 1)


def npy_of(shape: object, numbers: int = 30, descr: str = "<f4") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(4 * numbers)


def jpeg_of(width: int, height: int) -> bytes:
    stated = struct.pack(">HH", height, width)
    return jpeg(some_image()).replace(struct.pack(">HH", HEIGHT, WIDTH), stated)


def damaged(content: bytes) -> Iterator[tuple[bytes, bool]]:
    """Copies of a file with one damage each, and whether they must be refused."""
    for part in range(16):
        yield content[: part * len(content) // 16], True
    for length in (1, 4, 9, len(content) - 1):
        yield content[:length], True
    for magic in MAGICS:
        yield magic + content[4:], True
    for more in (b"\0", bytes(8), content):
        yield content + more, False
    random = np.random.default_rng(0)
    for position in [*range(28), *random.integers(28, len(content), 28)]:
        flipped = bytearray(content)
        flipped[position] ^= 1 << int(random.integers(8))
        yield bytes(flipped), False


def damaged_copies() -> Iterator[Case]:
    rgb, flow = some_image(), some_flow()
    known = np.ones((HEIGHT, WIDTH), np.float32)
    known[1, 2] = 0
    steps = np.trunc(flow * 64 + 32768) / 64 - 512
    formats: dict[str, tuple[bytes, Check]] = {
        "flo": (flo(flow), as_flo),
        "pfm": (pfm(flow), as_pfm),
        "npy": (npy(flow), as_npy),
        "ppm": (ppm(rgb), as_ppm),
        "png": (png(rgb), as_written(rgb.astype(np.float32) / np.float32(255))),
        "kitti": (
            kitti(flow),
            as_written([np.where(known[..., None] > 0, steps, 0).astype("f4"), known]),
        ),
        "flo5": (flo5(flow, chunks=(2, 3, 2)), as_written(masked(flow))),
        "jpeg": (jpeg(rgb), as_jpeg),
    }
    for name, (content, check) in formats.items():
        yield Case(name, content, check, is_whole=True)
        for copy, refused in damaged(content):
            yield Case(name, copy, None if refused else check)


def of_wrong_size_or_value() -> Iterator[Case]:
    rgb, flow = some_image(), some_flow()
    for width, height in SIZES:
        yield Case("flo", flo(flow, width, height), as_flo)
        yield Case("pfm", pfm(flow, b"PF\n%d %d\n-1.0\n" % (width, height)), as_pfm)
        yield Case("npy", npy_of((height, width, 2)), as_npy)
        yield Case("ppm", ppm(rgb, b"P6\n%d %d\n255\n" % (width, height)), as_ppm)
        size = (width % 2**32, height % 2**32)
        yield Case("png", raw_png(bytes(48), *size), None)
        yield Case("kitti", raw_png(bytes(93), *size, bits=16), None)
    for odd in some_odd_flows():
        yield Case("flo", flo(odd), as_flo)
        yield Case("pfm", pfm(odd), as_pfm)
        yield Case("npy", npy(odd), as_npy)
        yield Case("flo5", flo5(odd), as_written(masked(odd)))


def of_wrong_header() -> Iterator[Case]:
    flow = some_flow()
    for scale in (b"0", b"nan", b"1e999", b"--", b""):
        yield Case("pfm", pfm(flow, b"PF\n5 3\n" + scale + b"\n"), None)
    for shape in (
        "(3, 5)",
        "(3, 5, 2, 1)",
        "(True, 15, 2)",
        "'a'",
        "(" * 3000,
        "{}",
        "(2**9, 5, 2)",
    ):
        yield Case("npy", npy_of(shape), None)
    for descr in ("|O", "<f8", "<i4", "V4", "no type"):
        yield Case("npy", npy_of((3, 5, 2), descr=descr), None)
    for size in ((60000, 60000), (1000, 60000), (0, 5), (5, 0)):
        yield Case("jpeg", jpeg_of(*size), None)
    for zeros in (0, 1, 40, 47):
        yield Case("png", raw_png(bytes(zeros)), None)
    for wrong in (flow[0], flow.astype(np.float64), flow[..., :1], np.zeros((3, 5, 2), "<i4")):
        yield Case("flo5", flo5(wrong), None)


RGB, FLOW = some_image(), some_flow()


def png_of(width: int, height: int) -> bytes:
    content = bytearray(png(RGB))
    content[16:24] = struct.pack(">II", width, height)
    return bytes(content)


def ones_png(bits: int, channels: int) -> bytes:
    return png(np.ones((HEIGHT, WIDTH, channels), np.uint16 if bits == 16 else np.uint8))


FRAMES = {
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
    "png, bomb": png_of(2**31 - 1, 2**31 - 1),
    "png, just over the limit": png_of(MAX_PIXELS // 1024 + 1, 1024),
    "png, width 0": png_of(0, 3),
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
    "bomb, png": raw_png(b"", width=3000, height=3000),
    "bomb, png, 16-bit": raw_png(b"", width=400, height=400, bits=16),
    "bomb, png, single bits": raw_png(b"", width=3000, height=3000, bits=1, colour=0),
    "bomb, jpeg": jpeg(RGB).replace(
        struct.pack(">HH", HEIGHT, WIDTH), struct.pack(">HH", 3000, 3000)
    ),
    "bomb, bmp": bmp(RGB).replace(
        struct.pack("<ii", WIDTH, HEIGHT), struct.pack("<ii", 3000, -3000)
    ),
    "bomb, ppm": ppm(RGB, b"P6\n3000 3000\n255\n"),
}
PIXELS = 12 * HEIGHT * WIDTH
FLOWS = {
    "empty": b"",
    "html": b"<!DOCTYPE html><title>404</title>",
    "text": b"202021.25 5 3\n",
    "flo, big-endian magic": FLO_MAGIC[::-1] + flo(FLOW)[4:],
    "flo, magic only": FLO_MAGIC,
    "flo, truncated header": flo(FLOW)[:11],
    "flo, no pixels": flo(FLOW)[:12],
    "flo, one byte short": flo(FLOW)[:-1],
    "flo, one byte long": flo(FLOW) + b"\0",
    "flo, width 0": flo(FLOW, 0)[:12],
    "flo, both negative": flo(FLOW, -WIDTH, -HEIGHT),
    "flo, memory bomb": flo(FLOW, 2**30, 2**30)[:28],
    "flo, overflowing size": flo(FLOW, 2**31 - 1, 2**31 - 1)[:28],
    "pfm, header only": b"PF\n5 3\n-1.0\n",
    "pfm, one byte short": b"PF\n5 3\n-1.0\n" + bytes(PIXELS - 1),
    "pfm, one byte long": b"PF\n5 3\n-1.0\n" + bytes(PIXELS + 1),
    "pfm, one channel": b"Pf\n5 3\n-1.0\n" + bytes(PIXELS // 3),
    "pfm, scale 0": b"PF\n5 3\n0\n" + bytes(PIXELS),
    "pfm, scale infinite": b"PF\n5 3\n-1e999\n" + bytes(PIXELS),
    "pfm, scale no number": b"PF\n5 3\nnan\n" + bytes(PIXELS),
    "pfm, scale signs only": b"PF\n5 3\n--\n" + bytes(PIXELS),
    "pfm, width 0": b"PF\n0 3\n-1\n",
    "pfm, negative width": b"PF\n-5 3\n-1\n" + bytes(PIXELS),
    "pfm, no height": b"PF\n5\n-1\n" + bytes(PIXELS),
    "pfm, memory bomb": b"PF\n999999999 999999999\n-1\n" + bytes(PIXELS),
    "pfm, endless digits": b"PF\n" + b"9" * 5000 + b" 3\n-1\n",
    "png, 8-bit": ones_png(8, 3),
    "png, 16-bit grey": ones_png(16, 1),
    "png, 16-bit with alpha": ones_png(16, 4),
    "png, truncated": ones_png(16, 3)[:-20],
    "png, header only": ones_png(16, 3)[:33],
    "png, magic only": ones_png(16, 3)[:8],
    "png, bomb": raw_png(b"", width=3000, height=3000, bits=16),
    "jpeg": b"\xff\xd8\xff\xe0" + bytes(40),
}


def by_hand() -> Iterator[Case]:
    for content in FRAMES.values():
        yield Case("png", content, None)
    for content in FLOWS.values():
        yield Case("flo", content, None)


def read_both(case: Case, path: Path, graphs: dict[bool, Any]) -> Outcome:
    is_frame = case.format in ("png", "ppm", "jpeg")
    path.write_bytes(case.content)
    attempts: list[Any] = []
    for read in (read_frame, inspect_frame) if is_frame else (read_flow, inspect_flow):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        try:
            attempts.append(read(path))
        except Exception as error:
            attempts.append(error)
        if len(attempts) == 1:
            peak = tracemalloc.get_traced_memory()[1] - before
    try:
        decoded = graphs[is_frame](tf.constant(str(path)))
    except tf.errors.OpError:
        decoded = None
    result, inspected = attempts
    return Outcome(case, path, result, inspected, decoded, peak)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Outcome]]:
    folder = tmp_path_factory.mktemp("malformed")
    signature = [tf.TensorSpec([], tf.string)]
    graphs = {
        is_frame: tf.function(function, input_signature=signature).get_concrete_function()
        for is_frame, function in ((True, graph_frame), (False, graph_flow))
    }
    tracemalloc.start()
    yield [
        read_both(case, folder / f"{number}.{case.format}", graphs)
        for number, case in enumerate(
            [*damaged_copies(), *of_wrong_size_or_value(), *of_wrong_header(), *by_hand()]
        )
    ]
    tracemalloc.stop()


def test_there_are_many_files_of_each_format(outcomes: list[Outcome]) -> None:
    counts = Counter(outcome.case.format for outcome in outcomes)
    read = Counter(o.case.format for o in outcomes if not isinstance(o.result, Exception))
    assert len(outcomes) >= 600
    assert len(counts) == 8
    assert min(counts.values()) >= 60
    assert min(read.values()) >= 2
    assert sum(read.values()) < 0.5 * len(outcomes)


def test_every_refusal_is_one_line_that_names_the_file(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        for error in (outcome.result, outcome.inspected):
            if isinstance(error, Exception):
                assert isinstance(error, UserError), (outcome.path, repr(error))
                assert outcome.path.name in str(error)
                assert "\n" not in str(error)


def test_whatever_is_read_is_what_the_file_says(outcomes: list[Outcome]) -> None:
    for case, path, result, *_ in outcomes:
        if not isinstance(result, Exception):
            assert case.check is not None, f"{path.name} is not refused"
            assert case.check(case.content, result), path.name


def test_graph_and_python_agree_on_every_file(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        refused = isinstance(outcome.result, Exception)
        assert (outcome.decoded is None) == refused, outcome.path.name
        assert refused or same(outcome.decoded, outcome.result), outcome.path.name


def test_inspection_accepts_what_can_be_read_and_no_cut_file(outcomes: list[Outcome]) -> None:
    cut, whole = 0, [o.case.content for o in outcomes if o.case.is_whole]
    for case, path, result, inspected, *_ in outcomes:
        if not isinstance(result, Exception):
            shape = (result[0] if isinstance(result, tuple) else result).shape
            assert inspected == shape[:2], path.name
        elif any(len(case.content) < len(w) and w.startswith(case.content) for w in whole):
            cut += 1
            assert isinstance(inspected, UserError), path.name
    assert cut > 100


def test_memory_is_bounded_by_the_length_of_the_file(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        limit = DEFLATE_RATIO * len(outcome.case.content) + 2**20
        assert outcome.peak <= limit, outcome.path.name
