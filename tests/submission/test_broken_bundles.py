"""Bundles that a benchmark's server would not take, each refused with the reason."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import HEIGHT, LAYOUTS, WIDTH, flow_of, write_bundle

from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import write_flo, write_flo5, write_kitti_png
from pwc_exp.errors import DataError

Run = Callable[..., None]
EYE = np.eye(HEIGHT, WIDTH, dtype=np.float32)
BROKEN: dict[str, tuple[str, Callable[[Path], Any], str]] = {  # what is done to the first file
    "a file is missing": ("sintel", lambda file: file.unlink(), "1 files missing"),
    "a file too many": (
        "spring",
        lambda file: file.with_name("notes.txt").write_text("x"),
        "do not belong there",
    ),
    "another size": (
        "sintel",
        lambda file: write_flo(file, np.zeros((WIDTH, HEIGHT, 2))),
        "must be 32 x 48 .*Received: 48 x 32",
    ),
    "a .flo called .png": (
        "kitti2015",
        lambda file: write_flo(file, flow_of(0)),
        "must begin with .*PNG",
    ),
    "a picture of 8 bits": (
        "kitti2012",
        lambda file: write_image(file, np.zeros((HEIGHT, WIDTH, 3), np.uint8)),
        "Expected 16-bit PNG",
    ),
    "gaps": (
        "kitti2015",
        lambda file: write_kitti_png(file, flow_of(0), EYE),
        "flow at every pixel.*at 1504",
    ),
    "NaN": (
        "spring",
        lambda file: write_flo5(file, flow_of(0), 1 - EYE),
        "none .or NaN. at 32",
    ),
    "no pixels but other units": (
        "sintel",
        lambda file: write_flo(file, 1000 * flow_of(1)),
        "motion must be in pixels, below 115. Received: 1500",
    ),
    "a truncated file": (
        "sintel",
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        "Truncated",
    ),
    "an empty file": ("sintel", lambda file: file.write_bytes(b""), "Empty file"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_bundle_is_refused_with_the_reason(
    case: str, root: Callable[[str], Path], run: Run, tmp_path: Path
) -> None:
    name, change, reason = BROKEN[case]
    bundle = write_bundle(tmp_path / "bundle", name)
    arguments = (f"benchmark={name}", f"root={root(name)}", f"check={bundle}")
    run(*arguments)
    change(bundle / LAYOUTS[name][0])
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


def link() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("000000_10.png")
    entry.external_attr = 0o120777 << 16
    return entry


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"../000000_10.png": b"x"}, "not a plain file"),
        ({"/000000_10.png": b"x"}, "not a plain file"),
        ({"a//b": b"x"}, "not a plain file"),
        ({link(): b"/etc/passwd"}, "not a plain file"),
        ({zipfile.ZipInfo("a.png"): b"x", "a.png": b"y"}, "two files of one name"),
        ({zipfile.ZipInfo("a.png"): b"\0" * (2**10 + 1)}, "larger than 1,024 bytes"),
        ({}, "not a zip that can be read"),
    ],
    ids=["up", "root", "no name", "link", "twice", "large", "no zip"],
)
def test_a_zip_that_is_no_bundle_is_refused(
    entries: dict[str | zipfile.ZipInfo, bytes],
    reason: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pwc_exp.submission.MAX_FILE", 2**10)
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\x03\x04")
    if entries:
        with zipfile.ZipFile(path, "w") as archive:
            for entry, content in entries.items():
                archive.writestr(entry, content)
    with pytest.raises(DataError, match=reason):
        run("benchmark=kitti2012", f"check={path}")
