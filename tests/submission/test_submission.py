"""Submissions: the layout that each benchmark asks for, what its server refuses, and dry runs."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pwc_exp import checkpoints
from pwc_exp.build import build_model
from pwc_exp.config.commands import BenchmarkName
from pwc_exp.config.training import Precision, PrecisionConfig
from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import WRITERS, read_flow, write_flo, write_flo5, write_kitti_png
from pwc_exp.errors import ConfigError, DataError, MissingInputError, OutputError
from pwc_exp.evaluation.evaluator import evaluate
from pwc_exp.submission import BENCHMARKS, submit

HEIGHT, WIDTH = 32, 48
FRAMES = {
    "sintel": [
        f"test/{name}/{scene}/frame_{number:04d}.png"
        for name in ("clean", "final")
        for scene in ("PERTURBED_shaman_1", "wall")
        for number in (1, 2, 3)
    ],
    "kitti2012": [f"testing/colored_0/00000{n}_1{k}.png" for n in (0, 1) for k in (0, 1)],
    "kitti2015": [f"testing/image_2/00000{n}_1{k}.png" for n in (0, 1) for k in (0, 1)],
    "spring": [
        f"test/0003/frame_{side}/frame_{side}_{number:04d}.png"
        for side in ("left", "right")
        for number in (1, 2)
    ],
}
# As the instructions of each benchmark ask; of the test trees above.
LAYOUTS = {
    "sintel": [
        f"{name}/{scene}/frame_{number:04d}.flo"
        for name in ("clean", "final")
        for scene in ("PERTURBED_shaman_1", "wall")
        for number in (1, 2)
    ],
    "kitti2012": ["000000_10.png", "000001_10.png"],
    "kitti2015": ["flow/000000_10.png", "flow/000001_10.png"],
    "spring": [
        "0003/flow_BW_left/flow_BW_left_0002.flo5",
        "0003/flow_BW_right/flow_BW_right_0002.flo5",
        "0003/flow_FW_left/flow_FW_left_0001.flo5",
        "0003/flow_FW_right/flow_FW_right_0001.flo5",
    ],
}
Run = Callable[..., None]
Root = Callable[[str], Path]


def flow_of(number: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 2), (number + 0.5, -0.25), np.float32)


def write_bundle(folder: Path, name: str) -> Path:
    """Estimates in the layout of a benchmark, each with a flow of its own."""
    for number, file in enumerate(LAYOUTS[name]):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[path.suffix](path, flow_of(number))
    return folder


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def run(configure: Callable[..., Any]) -> Run:
    """The command: (overrides) -> None."""
    return lambda *overrides: submit(configure("submit", *overrides))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    """(benchmark) -> a test split of a few frames, which counts as complete."""

    def make(name: str) -> Path:
        for frame in FRAMES[name]:
            path = tmp_path / name / frame
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, np.full((HEIGHT, WIDTH, 3), len(frame), np.uint8))
        key = BenchmarkName(name)
        benchmark = BENCHMARKS[key]
        files = dict(benchmark.parts(LAYOUTS[name]))
        monkeypatch.setitem(BENCHMARKS, key, benchmark._replace(files=files))
        return tmp_path / name

    return make


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_bundle_has_the_layout_that_the_instructions_ask_for_and_the_upload_is_told(
    name: str, root: Root, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path / "flow", name)
    out = tmp_path / "out"
    arguments = (f"benchmark={name}", f"root={root(name)}", f"predictions={tmp_path}/flow")
    run(*arguments, f"out={tmp_path}/default")
    assert (tmp_path / f"default/{name}.zip").exists() == name.startswith("kitti")
    run(*arguments, f"out={out}", "zip=true")
    assert files_in(out / "bundle") == LAYOUTS[name]
    with zipfile.ZipFile(out / f"{name}.zip") as archive:
        assert archive.namelist() == LAYOUTS[name]
        archive.extractall(tmp_path / "unzipped")
    for number, file in enumerate(LAYOUTS[name]):
        flow, known = read_flow(tmp_path / "unzipped" / file)
        np.testing.assert_array_equal(flow, flow_of(number))
        assert known.all()
    about = json.loads((out / "submission.json").read_text())
    assert about["split"] == "test" and about["files"] == len(LAYOUTS[name])
    upload = {
        "sintel": f"bundler {out}/bundle/clean {out}/bundle/final bundled.lzma",
        "spring": f"flow_subsampling {out}/bundle",
    }
    assert upload.get(name, f"upload {out}/{name}.zip") in capsys.readouterr().out


def test_the_same_estimates_make_the_same_zip_in_any_format_that_predict_writes(
    root: Root, run: Run, tmp_path: Path
) -> None:
    zips = []
    for suffix, write in WRITERS.items():
        folder, out = tmp_path / f"flow{suffix}", tmp_path / f"out{suffix}"
        folder.mkdir()
        for number, file in enumerate(("000000_10", "000001_10")):  # as the samples are called
            write(folder / f"{file}{suffix}", flow_of(number))
        arguments = ("benchmark=kitti2015", f"root={root('kitti2015')}", f"predictions={folder}")
        run(*arguments, f"out={out}")
        zips.append((out / "kitti2015.zip").read_bytes())
    assert len(zips) == 5 and len(set(zips)) == 1
    with pytest.raises(OutputError, match="out.pfm cannot be written"):
        run(*arguments, f"out={out}")


def test_a_network_estimates_them_and_its_weights_are_noted(
    root: Root, run: Run, configure: Callable[..., Any], tmp_path: Path
) -> None:
    fp32 = PrecisionConfig(policy=Precision.fp32)
    tiny = build_model(configure("describe", "model=tiny").model, fp32)
    state = checkpoints.named_state(tiny)
    path = checkpoints.save(tmp_path, step=1, state=state, metrics={}, fingerprint={})
    weights = (f"weights={path}", "model=tiny", f"out={tmp_path}/out")
    run("benchmark=kitti2015", f"root={root('kitti2015')}", *weights)
    about = json.loads((tmp_path / "out/submission.json").read_text())
    assert about["weights"]["path"] == str(path) and about["estimate"] == str(path)
    flow, _ = read_flow(tmp_path / "out/bundle/flow/000001_10.png")
    assert flow.shape == (HEIGHT, WIDTH, 2) and np.any(flow)


def test_a_part_of_the_test_split_is_refused_before_anything_is_estimated(
    root: Root, run: Run, tmp_path: Path
) -> None:
    folder = root("sintel")
    shutil.rmtree(folder / "test/final/wall")
    arguments = ("benchmark=sintel", f"predictions={tmp_path}", f"out={tmp_path}/x")
    with pytest.raises(DataError, match="whole test split.*'final': 4.*Received.*'final': 2"):
        run(*arguments, f"root={folder}")
    with pytest.raises(MissingInputError, match="Not a data set.*test/clean/ambush_1"):
        run(*arguments, f"root={tmp_path}")
    assert not (tmp_path / "x").exists()


def test_motion_that_kittis_format_cannot_hold_is_refused_or_cut(
    root: Root, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = root("kitti2012")
    write_bundle(tmp_path / "flow", "kitti2012")
    (tmp_path / "flow/000001_10.png").unlink()
    # In a frame so large that the motion is not taken for a mistake.
    far = np.zeros((600, 700, 2), np.float32)
    far[3, 4] = (-600, 2)
    write_flo(tmp_path / "flow/000001_10.flo", far)
    for file in ("000001_10", "000001_11"):
        write_image(folder / f"testing/colored_0/{file}.png", np.zeros((600, 700, 3), np.uint8))
    arguments = ("benchmark=kitti2012", f"root={folder}", f"predictions={tmp_path}/flow")
    with pytest.raises(DataError, match="000001_10.png: motion must be below 512.*clip=true"):
        run(*arguments, f"out={tmp_path}/out")
    assert not (tmp_path / "out").exists()
    run(*arguments, f"out={tmp_path}/out", "clip=true")
    assert "look at 000001_10.png" in capsys.readouterr().out
    flow, _ = read_flow(tmp_path / "out/bundle/000001_10.png")
    assert flow.min() == -512


def test_the_data_set_must_be_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="root must name the data set"):
        run("benchmark=sintel", f"predictions={tmp_path}")


def test_a_dry_run_scores_what_it_reads_back_as_evaluate_does(
    shared: Path, run: Run, configure: Callable[..., Any], tmp_path: Path
) -> None:
    root = shared / "data/MPI-Sintel"
    flows = tmp_path / "flow"
    for path in (root / "training/flow").rglob("*.flo"):
        flow = read_flow(path)[0] + np.array([3, 4], np.float32)
        for name in ("clean", "final"):
            place = flows / name / path.relative_to(root / "training/flow")
            place.parent.mkdir(parents=True, exist_ok=True)
            write_flo(place, flow if name == "clean" else flow * 2)
    source = (f"root={root}", f"predictions={flows}", "dry_run=true")
    run("benchmark=sintel", *source, f"out={tmp_path}/out")
    errors = json.loads((tmp_path / "out/submission.json").read_text())["errors"]
    assert errors["clean"]["aepe"] == pytest.approx(5, abs=1e-4)
    data = ("data=sintel", f"data.root={root}", "data.render_pass=final")
    files = (f"predictions={flows}/final", f"out={tmp_path}/evaluated")
    assert evaluate(configure("evaluate", *data, *files)) == pytest.approx(errors["final"]["aepe"])


def test_a_dry_run_for_kitti_scores_what_its_format_kept(
    shared: Path, run: Run, tmp_path: Path
) -> None:
    root = shared / "data/kitti2012"
    height, width = read_flow(root / "training/flow_occ/000045_10.png")[0].shape[:2]
    flow = np.full((height, width, 2), 1.003, np.float32)  # kept as 1.0
    write_flo(tmp_path / "000045_10.flo", flow)
    truth, valid = read_flow(root / "training/flow_occ/000045_10.png")
    expected = np.hypot(*(truth - 1.0)[valid > 0].T).mean()
    source = (f"root={root}", f"predictions={tmp_path}", "dry_run=true")
    run("benchmark=kitti2012", *source, f"out={tmp_path}/out")
    errors = json.loads((tmp_path / "out/submission.json").read_text())["errors"]
    assert errors["flow"]["aepe"] == pytest.approx(expected, rel=1e-5)
    run(
        "benchmark=kitti2012", f"root={root}", f"check={tmp_path}/out/kitti2012.zip", "dry_run=true"
    )


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
    case: str, root: Root, run: Run, tmp_path: Path
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
