"""Flow files: exact round trips, masks, and one line for whatever is malformed."""

import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf
from encoded import (
    HEIGHT,
    WIDTH,
    assert_graph_agrees,
    assert_same,
    flo,
    flo5,
    kitti,
    npy,
    pfm,
    some_flow,
)

from pwc_exp.data.formats import io
from pwc_exp.data.formats.io import (
    graph_flow,
    inspect_flow,
    read_flow,
    write_flo,
    write_flo5,
    write_kitti_png,
    write_npy,
    write_pfm,
)
from pwc_exp.errors import DataError, MissingInputError, OutputError

UNKNOWN = some_flow()
UNKNOWN[0, 1, 0], UNKNOWN[1, 4, 1], UNKNOWN[2, 0], UNKNOWN[2, 2] = np.nan, 1e9, -np.inf, -0.0
COMMON = {
    "flo": flo(some_flow()),
    "flo, unknown": flo(UNKNOWN),
    "pfm": pfm(some_flow()),
    "pfm, unknown": pfm(UNKNOWN),
    "pfm, big-endian": pfm(UNKNOWN, b"PF\n5 3\n1\n", ">"),
    "pfm, scale 2": pfm(UNKNOWN, b"PF\n5 3\n-2.0\n"),
    "pfm, lines of Windows": pfm(UNKNOWN, b"PF\r\n5 3\r\n-1.0\r\n"),
    "kitti": kitti(some_flow()),
}
RARE = {"flo5": flo5(UNKNOWN), "npy": npy(UNKNOWN)}
EXACT_WRITERS = [write_flo, write_pfm, write_flo5, write_npy]


@pytest.mark.parametrize("write", EXACT_WRITERS)
def test_flow_and_mask_survive_a_round_trip(write: Callable[..., None], tmp_path: Path) -> None:
    path, flow = tmp_path / "flow", some_flow()
    valid = np.ones((HEIGHT, WIDTH), np.float32)
    valid[1, 2] = 0
    write(path, flow, valid)
    read, known = read_flow(path)
    np.testing.assert_array_equal(known, valid)
    np.testing.assert_array_equal(read, flow * valid[..., None])
    assert read.dtype == known.dtype == np.float32
    assert inspect_flow(path) == (HEIGHT, WIDTH)


def test_kitti_png_survives_a_round_trip_to_a_64th_of_a_pixel(tmp_path: Path) -> None:
    path, flow = tmp_path / "flow.png", some_flow()
    flow[0, 0] = (-512, 511.984375)  # the ends of the range
    flow[2, 4] = 0  # no motion is not "unknown"
    valid = np.ones((HEIGHT, WIDTH), np.float32)
    valid[1, 2] = 0
    write_kitti_png(path, flow, valid)
    read, known = read_flow(path)
    np.testing.assert_array_equal(known, valid)
    np.testing.assert_array_equal(read, np.round(flow * 64) / 64 * valid[..., None])
    raw = tf.io.decode_png(path.read_bytes(), dtype=tf.uint16).numpy()
    assert raw[1, 2].tolist() == [32768, 32768, 0]
    assert inspect_flow(path) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("value", [512.0, -512.1])
def test_kitti_png_refuses_what_does_not_fit(value: float, tmp_path: Path) -> None:
    flow = some_flow()
    flow[1, 1, 0] = value
    with pytest.raises(DataError, match="-512"):
        write_kitti_png(tmp_path / "flow.png", flow)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("unknown", [1e9, -1.6666668e9, np.nan, np.inf, -np.inf])
def test_unknown_flow_is_read_as_invalid_zero(unknown: float, tmp_path: Path) -> None:
    flow = some_flow()
    flow[2, 3, 1] = unknown
    (tmp_path / "a.flo").write_bytes(flo(flow))
    read, valid = read_flow(tmp_path / "a.flo")
    assert valid[2, 3] == 0
    assert valid.sum() == HEIGHT * WIDTH - 1
    assert read[2, 3].tolist() == [0, 0]


@pytest.mark.parametrize("write", [*EXACT_WRITERS, write_kitti_png])
def test_flow_that_is_not_finite_is_not_written(write: Callable[..., None], tmp_path: Path) -> None:
    flow = some_flow()
    flow[0, 1, 0] = np.nan
    with pytest.raises(DataError, match="not finite at 1 pixels"):
        write(tmp_path / "flow", flow)


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OutputError, match="flow.flo"):
        write_flo(tmp_path / "file" / "flow.flo", some_flow())


def variants() -> Iterator[tuple[str, bytes]]:
    """Files of one flow, under names that say nothing."""
    flow = some_flow()
    yield "flow.png", flo(flow)
    for order, scale in (("<", b"-1.0"), (">", b"2e0")):
        big_or_little = flow.astype(f"{order}f4")
        for newline in (b"\n", b"\r\n"):  # the rows of .pfm are stored bottom up
            header = newline.join([b"PF", b"5 3", scale, b""])
            yield f"pfm {order} {newline!r}", pfm(flow, header, order)
        yield f"npy {order}", npy(big_or_little)
        yield f"npy {order}, by columns", npy(np.asfortranarray(big_or_little))
        for options in ({}, {"shuffle": True}, {"chunks": (2, 3, 1)}):
            yield f"flo5 {order} {options}", flo5(big_or_little, **options)


def test_the_content_decides_how_a_file_is_read(tmp_path: Path) -> None:
    for name, content in variants():
        (tmp_path / name).write_bytes(content)
        read, valid = read_flow(tmp_path / name)
        assert_same(read, some_flow(), name)
        assert valid.all(), name
        assert inspect_flow(tmp_path / name) == (HEIGHT, WIDTH), name


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy(np.array([[None, 1], [2, "x"]], object)))
    with pytest.raises(DataError, match="Expected float32"):
        read_flow(tmp_path / "a.npy")


@pytest.mark.parametrize("write", [*EXACT_WRITERS, write_kitti_png])
def test_no_truncation_of_a_flow_file_is_accepted(
    write: Callable[..., None], tmp_path: Path
) -> None:
    path = tmp_path / "flow"
    write(path, some_flow())
    content = path.read_bytes()
    for length in range(len(content) - 1, -1, -1 - len(content) // 100):
        path.write_bytes(content[:length])
        for read in (read_flow, inspect_flow):
            with pytest.raises(DataError, match="flow"):
                read(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="absent.flo"):
        read_flow(tmp_path / "absent.flo")
    with pytest.raises(DataError, match="Not a regular file"):
        read_flow(tmp_path)


def test_rewriting_kitti_ground_truth_keeps_its_raw_numbers(shared: Path, tmp_path: Path) -> None:
    original = shared / "data/kitti2012/training/flow_occ/000045_10.png"
    write_kitti_png(tmp_path / "copy.png", *read_flow(original))
    raw, copy = (
        tf.io.decode_png(path.read_bytes(), dtype=tf.uint16).numpy()
        for path in (original, tmp_path / "copy.png")
    )
    np.testing.assert_array_equal(copy, raw)


def test_lucas_kanade_on_kitti_scores_as_the_devkit_says(shared: Path) -> None:
    root = shared / "data/kitti2012"
    truth, valid = read_flow(root / "training/flow_noc/000045_10.png")
    estimate, _ = read_flow(root / "results/LKflow_000045_10.png")
    error = np.linalg.norm(estimate - truth, axis=-1)[valid > 0]
    assert error.size == 104_330
    assert error.mean() == pytest.approx(10.6271, abs=1e-4)
    assert 100 * (error > 3).mean() == pytest.approx(78.560, abs=1e-3)


def write_hdf5(path: Path, **options: Any) -> None:
    shape, dtype = (HEIGHT, WIDTH, 2), np.float32
    with h5py.File(path, "w") as file:
        file.create_dataset("flow", **{"shape": shape, "dtype": dtype, "chunks": shape} | options)


def write_hdf5_bomb(path: Path) -> None:
    shape = (2**20, 60, 2)
    write_hdf5(path, shape=shape, chunks=shape, compression="gzip")
    with h5py.File(path, "r+") as file:
        file["flow"].id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(10**6)))


REFUSED_HDF5: dict[str, Callable[[Path], object]] = {
    "never written": lambda path: write_hdf5(path, compression="gzip"),
    "not compressed": lambda path: write_hdf5(path, data=some_flow()),
    "other filter": lambda path: write_hdf5(path, data=some_flow(), compression="lzf"),
    "bomb": write_hdf5_bomb,
    "above the limit": lambda path: write_hdf5(path, shape=(10**6, 10**6, 2), compression="gzip"),
    "one rank less": lambda path: path.write_bytes(flo5(some_flow()[0])),
    "other dtype": lambda path: path.write_bytes(flo5(some_flow().astype(np.float16))),
    "other name": lambda path: path.write_bytes(flo5(some_flow(), name="disparity")),
    "a group": lambda path: path.write_bytes(flo5(some_flow(), name="flow/flow")),
}


@pytest.mark.parametrize("write", REFUSED_HDF5.values(), ids=REFUSED_HDF5.keys())
def test_hdf5_that_is_not_as_spring_writes_it_is_refused(
    write: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "broken.flo5"
    write(path)
    tracemalloc.start()
    for read in (read_flow, inspect_flow):
        with pytest.raises(DataError, match="broken.flo5. Expected"):
            read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20 + path.stat().st_size
    tracemalloc.stop()


def test_hdf5_never_leads_to_another_file(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(flo5(some_flow()))
    (tmp_path / "raw").write_bytes(some_flow().tobytes())
    shape, path = (HEIGHT, WIDTH, 2), tmp_path / "flow.flo5"
    layout = h5py.VirtualLayout(shape, np.float32)
    layout[:] = h5py.VirtualSource(tmp_path / "other", "flow", shape)
    with h5py.File(tmp_path / "link", "w") as file:
        file["flow"] = h5py.ExternalLink(tmp_path / "other", "flow")
    with h5py.File(tmp_path / "virtual", "w") as file:
        file.create_virtual_dataset("flow", layout)
    with h5py.File(tmp_path / "external", "w") as file:
        file.create_dataset("flow", shape, np.float32, external=tmp_path / "raw")
    for name in ("link", "virtual", "external"):
        path.write_bytes((tmp_path / name).read_bytes())
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["flow"], some_flow())  # h5py would follow
        with pytest.raises(DataError, match="flow.flo5. Expected"):
            read_flow(path)


def test_a_damaged_index_of_hdf5_never_gives_zeros(tmp_path: Path) -> None:
    path, content, accepted = tmp_path / "a.flo5", flo5(some_flow(), chunks=(2, 3, 2)), 0
    index = content.index(b"TREE\1")
    for position in range(index, index + 300):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(read_flow(path)[0], some_flow())
            accepted += 1
        except DataError:
            pass
    assert 0 < accepted < 200


def test_a_chunk_that_inflates_to_too_little_is_refused(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.flo5", compression="gzip")
    with h5py.File(tmp_path / "a.flo5", "r+") as file:
        file["flow"].id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(20)))
    with pytest.raises(DataError, match=r"a.flo5. Expected 120 bytes in the chunk"):
        read_flow(tmp_path / "a.flo5")


def test_a_graph_reads_what_python_reads(tmp_path: Path) -> None:
    assert_graph_agrees(graph_flow, read_flow, COMMON | RARE, tmp_path)
    with pytest.raises(tf.errors.OpError, match="absent"):
        graph_flow(str(tmp_path / "absent.flo"))


def test_numbers_of_common_formats_are_decoded_without_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io, "read_flow", lambda path: pytest.fail(f"asked to read {path}"))
    for name, content in COMMON.items():
        (tmp_path / name).write_bytes(content)
        assert_same(graph_flow(str(tmp_path / name)), read_flow(tmp_path / name), name)


def test_real_flow_is_decoded_as_python_reads_it(shared: Path) -> None:
    flows = [*shared.glob("data/**/*.flo"), *shared.glob("data/**/flow_*/*.png")]
    for path in flows:
        assert_same(graph_flow(str(path)), read_flow(path), path)
    assert len(flows) > 10
