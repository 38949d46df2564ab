"""Bundles that a benchmark's server would not take, each refused with the reason."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import HEIGHT, LAYOUTS, WIDTH, Root, Run, flow_of, make_roots, write_bundle

from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import write_flo, write_flo5, write_kitti_png
from pwc_exp.errors import DataError
from pwc_exp.submission import submit


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    return make_roots(tmp_path, monkeypatch)


@pytest.fixture
def run(configure: Callable[..., Any]) -> Run:
    return lambda *overrides: submit(configure("submit", *overrides))


Change = Callable[[Path], Any]
BROKEN: dict[str, tuple[str, Change, str]] = {
    "a file is missing": (
        "sintel",
        lambda b: (b / LAYOUTS["sintel"][3]).unlink(),
        "1 files missing",
    ),
    "a file too many": (
        "spring",
        lambda b: (b / "notes.txt").write_text("x"),
        "do not belong there",
    ),
    "another size": (
        "sintel",
        lambda b: write_flo(b / LAYOUTS["sintel"][0], np.zeros((WIDTH, HEIGHT, 2))),
        "must be 32 x 48 .*Received: 48 x 32",
    ),
    "a .flo called .png": (
        "kitti2015",
        lambda b: write_flo(b / LAYOUTS["kitti2015"][0], flow_of(0)),
        "must begin with .*PNG",
    ),
    "a picture of 8 bits": (
        "kitti2012",
        lambda b: write_image(b / LAYOUTS["kitti2012"][0], np.zeros((HEIGHT, WIDTH, 3), np.uint8)),
        "Expected 16-bit PNG",
    ),
    "gaps": (
        "kitti2015",
        lambda b: write_kitti_png(
            b / LAYOUTS["kitti2015"][0], flow_of(0), np.eye(HEIGHT, WIDTH, dtype=np.float32)
        ),
        "flow at every pixel.*at 1504",
    ),
    "NaN": (
        "spring",
        lambda b: write_flo5(
            b / LAYOUTS["spring"][0], flow_of(0), 1 - np.eye(HEIGHT, WIDTH, dtype=np.float32)
        ),
        "none .or NaN. at 32",
    ),
    "no pixels but other units": (
        "sintel",
        lambda b: write_flo(b / LAYOUTS["sintel"][0], 1000 * flow_of(1)),
        "motion must be in pixels, below 115. Received: 1500",
    ),
    "a truncated file": (
        "sintel",
        lambda b: (b / LAYOUTS["sintel"][0]).write_bytes(
            (b / LAYOUTS["sintel"][0]).read_bytes()[:-1]
        ),
        "Truncated",
    ),
    "an empty file": (
        "sintel",
        lambda b: (b / LAYOUTS["sintel"][0]).write_bytes(b""),
        "Empty file",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_bundle_is_refused_with_the_reason(
    case: str, root: Root, run: Run, tmp_path: Path
) -> None:
    name, change, reason = BROKEN[case]
    bundle = write_bundle(tmp_path / "bundle", name)
    arguments = (f"benchmark={name}", f"root={root(name)}", f"check={bundle}")
    run(*arguments)
    change(bundle)
    with pytest.raises(DataError, match=reason) as refused:
        run(*arguments)
    assert str(refused.value).startswith(f"{bundle} is not what the server takes")
    assert "\n" not in str(refused.value)


def test_names_and_numbers_are_checked_without_the_data_set(run: Run, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle/flow"
    bundle.mkdir(parents=True)
    write_kitti_png(bundle / "000000_10.png", flow_of(0))
    for number in range(1, 200):
        shutil.copy(bundle / "000000_10.png", bundle / f"{number:06d}_10.png")
    run("benchmark=kitti2015", f"check={tmp_path}/bundle")
    (bundle / "000199_10.png").rename(bundle / "000200_10.png")
    with pytest.raises(
        DataError, match=r"names that the benchmark does not have: flow/000200.*2 mistakes"
    ):
        run("benchmark=kitti2015", f"check={tmp_path}/bundle")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("../000000_10.png", "not a plain file"),
        ("/000000_10.png", "not a plain file"),
        ("a//b", "not a plain"),
    ],
)
def test_a_zip_with_names_that_lead_out_is_refused(
    entry: str, said: str, run: Run, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, b"x")
    with pytest.raises(DataError, match=said):
        run("benchmark=kitti2012", f"check={tmp_path}/a.zip")


def test_zips_of_other_kinds_are_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    link = zipfile.ZipInfo("000000_10.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="not a plain file"):
        run("benchmark=kitti2012", f"check={path}")
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("000000_10.png", b"x")
        archive.writestr("000000_10.png", b"y")
    with pytest.raises(DataError, match="two files of one name"):
        run("benchmark=kitti2012", f"check={path}")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("000000_10.png", b"\0" * (2**28 + 1))
    with pytest.raises(DataError, match="larger than"):
        run("benchmark=kitti2012", f"check={path}")
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="not a zip that can be read"):
        run("benchmark=kitti2012", f"check={path}")
