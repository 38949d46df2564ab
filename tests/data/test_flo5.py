"""Spring's HDF5: every number comes from the file itself, or the file is refused."""

import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from encoded import HEIGHT, WIDTH, flo5, some_flow

from pwc_exp.data.formats.io import inspect_flow, read_flow
from pwc_exp.errors import DataError


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"chunks": (2, 3, 1)}])
def test_flo5_is_read_however_it_is_chunked(options: dict[str, Any], tmp_path: Path) -> None:
    for order in "<>":
        (tmp_path / "a.flo5").write_bytes(flo5(some_flow().astype(f"{order}f4"), **options))
        read, valid = read_flow(tmp_path / "a.flo5")
        np.testing.assert_array_equal(read, some_flow())
        assert valid.all()
        assert inspect_flow(tmp_path / "a.flo5") == (HEIGHT, WIDTH)


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


def test_a_bomb_in_hdf5_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    write_hdf5_bomb(tmp_path / "bomb.flo5")
    tracemalloc.start()
    with pytest.raises(DataError, match="bomb.flo5. Expected [0-9]+ to [0-9]+ bytes of flow"):
        read_flow(tmp_path / "bomb.flo5")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("write", REFUSED_HDF5.values(), ids=REFUSED_HDF5.keys())
def test_hdf5_that_is_not_as_spring_writes_it_is_refused(
    write: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "broken.flo5"
    write(path)
    for read in (read_flow, inspect_flow):
        with pytest.raises(DataError, match="broken.flo5. Expected"):
            read(path)


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
