"""Submissions: the layout that each benchmark asks for, and bundles that it would not take."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pwc_exp import checkpoints, submission
from pwc_exp.build import build_model
from pwc_exp.commands.submission import BenchmarkName
from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import read_flow, write_flo, write_flo5, write_kitti_png
from pwc_exp.errors import ConfigError, DataError, MissingInputError, OutputError
from pwc_exp.evaluation import evaluate
from pwc_exp.groups.training import Precision, PrecisionConfig
from pwc_exp.submission import submit

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
        "test/0003/flow_BW_left/flow_BW_left_0002.flo5",
        "test/0003/flow_BW_right/flow_BW_right_0002.flo5",
        "test/0003/flow_FW_left/flow_FW_left_0001.flo5",
        "test/0003/flow_FW_right/flow_FW_right_0001.flo5",
    ],
}
WRITERS = {".flo": write_flo, ".png": write_kitti_png, ".flo5": write_flo5}
Run = Callable[..., None]


@pytest.fixture
def run(configure: Callable[..., Any]) -> Run:
    def submit_configured(*overrides: str) -> None:
        submit(configure("submit", *overrides))

    return submit_configured


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """(benchmark) -> a test split of a few frames, which counts as complete."""

    def make(name: str) -> Path:
        for frame in FRAMES[name]:
            path = tmp_path / name / frame
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, np.full((HEIGHT, WIDTH, 3), len(frame), np.uint8))
        key = BenchmarkName(name)
        benchmark = submission.BENCHMARKS[key]
        files = dict(benchmark.parts(LAYOUTS[name]))
        monkeypatch.setitem(submission.BENCHMARKS, key, benchmark._replace(files=files))
        return tmp_path / name

    return make


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


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_bundle_has_the_layout_that_the_instructions_ask_for(
    name: str, root: Callable[[str], Path], run: Run, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "flow", name)
    out = tmp_path / "out"
    source = f"predictions={tmp_path}/flow"
    run(f"benchmark={name}", f"root={root(name)}", source, f"out={out}", "zip=true")
    assert files_in(out / "bundle") == LAYOUTS[name]
    with zipfile.ZipFile(out / f"{name}.zip") as archive:
        assert archive.namelist() == LAYOUTS[name] and archive.testzip() is None
        archive.extractall(tmp_path / "unzipped")
    for number, file in enumerate(LAYOUTS[name]):
        flow, known = read_flow(tmp_path / "unzipped" / file)
        np.testing.assert_array_equal(flow, flow_of(number))
        assert known.all()
    about = json.loads((out / "submission.json").read_text())
    assert about["split"] == "test" and about["files"] == len(LAYOUTS[name])


def test_what_is_left_to_do_is_told(
    root: Callable[[str], Path], run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = f"predictions={write_bundle(tmp_path / 'flow', 'sintel')}"
    run("benchmark=sintel", f"root={root('sintel')}", source, f"out={tmp_path}/out")
    assert f"bundler {tmp_path}/out/bundle/clean {tmp_path}/out/bundle/final bundled.lzma" in (
        capsys.readouterr().out
    )
    assert not (tmp_path / "out/sintel.zip").exists()  # the server does not take it


def test_the_same_estimates_make_the_same_zip(
    root: Callable[[str], Path], run: Run, tmp_path: Path
) -> None:
    for number, file in enumerate(("000000_10", "000001_10")):
        (tmp_path / "flow").mkdir(exist_ok=True)
        write_flo(tmp_path / f"flow/{file}.flo", flow_of(number))  # by the names of the samples
    arguments = ("benchmark=kitti2015", f"root={root('kitti2015')}", f"predictions={tmp_path}/flow")
    run(*arguments, f"out={tmp_path}/one")
    run(*arguments, f"out={tmp_path}/two")
    one, two = (tmp_path / folder / "kitti2015.zip" for folder in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    run(f"check={one}", "benchmark=kitti2015", f"root={tmp_path}/kitti2015")
    with pytest.raises(OutputError, match="one cannot be written"):
        run(*arguments, f"out={tmp_path}/one")


def test_a_network_estimates_them_and_its_weights_are_noted(
    root: Callable[[str], Path], run: Run, configure: Callable[..., Any], tmp_path: Path
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
    root: Callable[[str], Path], run: Run, tmp_path: Path
) -> None:
    folder = root("sintel")
    shutil.rmtree(folder / "test/final/wall")
    arguments = (
        "benchmark=sintel",
        f"root={folder}",
        f"predictions={tmp_path}",
        f"out={tmp_path}/x",
    )
    with pytest.raises(DataError, match="whole test split.*'final': 4.*Received.*'final': 2"):
        run(*arguments)
    with pytest.raises(MissingInputError, match="Not a data set.*test/clean/ambush_1"):
        run("benchmark=sintel", f"root={tmp_path}", f"predictions={tmp_path}", f"out={tmp_path}/x")
    assert not (tmp_path / "x").exists()


def test_motion_that_kittis_format_cannot_hold_is_refused_or_cut(
    root: Callable[[str], Path], run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    case: str, root: Callable[[str], Path], run: Run, tmp_path: Path
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
        DataError, match=r"names that the benchmark has not: flow/000200.*2 mistakes"
    ):
        run("benchmark=kitti2015", f"check={tmp_path}/bundle")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("../000000_10.png", "no plain file"),
        ("/000000_10.png", "no plain file"),
        ("a//b", "no plain"),
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
    with pytest.raises(DataError, match="no plain file"):
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
    with pytest.raises(DataError, match="no zip that can be read"):
        run("benchmark=kitti2012", f"check={path}")


def test_the_configuration_must_say_what_is_asked(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run or weights or predictions or check"):
        run("benchmark=sintel", f"root={tmp_path}")
    with pytest.raises(ConfigError, match="root must name the data set"):
        run("benchmark=sintel", f"predictions={tmp_path}")
    with pytest.raises(ConfigError, match="benchmark"):
        run("benchmark=middlebury", f"check={tmp_path}")


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
