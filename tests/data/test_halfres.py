"""The half-size tree: exact means, half the motion, nothing made twice or left half made."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy_warp import errors_of_readings, right_reading_is_best

from pwc_exp.data import halfres
from pwc_exp.data.formats.images import read_frame, write_image
from pwc_exp.data.formats.io import read_flow, write_pfm
from pwc_exp.data.halfres import check_finished, halve, halve_flow, halve_frame
from pwc_exp.errors import DataError, DiskFullError, MissingInputError, OutputError

HEIGHT, WIDTH = 4, 6
SCENES = ("TRAIN/A/0000", "TRAIN/C/0012", "TEST/B/0149")


def frame_at(root: Path, scene: str, number: int, side: str = "left") -> Path:
    return root / "frames_cleanpass" / scene / side / f"{number:04d}.png"


def flow_at(root: Path, scene: str, number: int, suffix: str = ".pfm") -> Path:
    name = f"OpticalFlowIntoFuture_{number:04d}_L{suffix}"
    return root / "optical_flow" / scene / "into_future" / "left" / name


def some_frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def write_frame(path: Path, frame: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, frame)


def write_flow(path: Path, flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pfm(path, flow, valid)


def write_tree(root: Path) -> Path:
    """Three scenes of two frames and one flow, of constant motion (3, -5) pixels."""
    for seed, scene in enumerate(SCENES):
        for number in (6, 7):
            write_frame(frame_at(root, scene, number), some_frame(10 * seed + number))
        write_flow(flow_at(root, scene, 6), np.full((HEIGHT, WIDTH, 2), (3, -5), np.float32))
    return root


def test_a_pixel_is_the_mean_of_four_with_halves_rounded_up() -> None:
    frame = some_frame(0)
    frame[:2, :2] = np.array([[7, 7], [8, 8]])[..., None]  # mean 7.5
    frame[2:, 4:] = np.array([[6, 6], [6, 7]])[..., None]  # mean 6.25
    half = halve_frame(frame)
    blocks = frame.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).astype(float)
    np.testing.assert_array_equal(half, np.floor(blocks.mean(axis=(1, 3)) + 0.5))
    assert half.dtype == np.uint8
    assert (half[0, 0, 0], half[1, 2, 0]) == (8, 6)
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    np.testing.assert_array_equal(halve_frame(white), white[:2, :3])


def test_halved_flow_moves_halved_points_to_the_same_places() -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    flow = np.stack([0.25 * x - 2 * y + 3, x + 0.5 * y - 7], axis=-1)
    half, valid = halve_flow(flow, np.ones((HEIGHT, WIDTH), np.float32))
    y, x = np.mgrid[: HEIGHT // 2, : WIDTH // 2] * 2 + 0.5  # the same points at full size
    np.testing.assert_allclose(half[..., 0], (0.25 * x - 2 * y + 3) / 2, rtol=1e-6)
    np.testing.assert_allclose(half[..., 1], (x + 0.5 * y - 7) / 2, rtol=1e-6)
    assert valid.all()
    assert half.dtype == valid.dtype == np.float32


def test_unknown_flow_takes_no_part_in_a_mean() -> None:
    flow = np.full((HEIGHT, WIDTH, 2), (4, -6), np.float32)
    valid = np.ones((HEIGHT, WIDTH), np.float32)
    valid[0, :3] = valid[2:, 4:] = 0  # two, then one, of a square; a whole square
    flow[valid == 0] = 0
    half, known = halve_flow(flow, valid)
    assert known.tolist() == [[1, 1, 1], [1, 1, 0]]
    np.testing.assert_array_equal(half, known[..., None] * np.array([2, -3]))


def test_the_half_tree_has_the_layout_of_the_full_one(tmp_path: Path) -> None:
    root, out = write_tree(tmp_path / "full"), tmp_path / "half"
    for extra in ("optical_flow/TRAIN/A/0000/into_future/left/notes.txt", "camera_data/a.txt"):
        (root / extra).parent.mkdir(parents=True, exist_ok=True)
        (root / extra).write_text("x")
    unused = "frames_cleanpass/all_unused_files.txt"
    (root / unused).write_bytes(b"TRAIN/A/0000/left/0006.png\r\n")
    summary = halve(root, out, workers=2)
    assert summary == (6, 3, 1, 9, 0, [])
    assert halve(root, out, workers=1) == (6, 3, 1, 0, 9, [])
    check_finished(out)
    expected = [unused]
    for scene in SCENES:
        expected += [str(frame_at(Path(), scene, number)) for number in (6, 7)]
        expected.append(str(flow_at(Path(), scene, 6, ".flo")))
        flow, valid = read_flow(flow_at(out, scene, 6, ".flo"))
        np.testing.assert_array_equal(flow, np.full((2, 3, 2), (1.5, -2.5)))
        assert valid.all()
    files = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
    assert sorted(files) == sorted([*expected, ".lock"])
    assert (out / unused).read_bytes() == (root / unused).read_bytes()
    half = read_frame(frame_at(out, SCENES[1], 7))
    np.testing.assert_array_equal(np.rint(half * 255), halve_frame(some_frame(17)))


def test_a_damaged_file_is_named_and_the_rest_is_made(tmp_path: Path) -> None:
    root, out = write_tree(tmp_path / "full"), tmp_path / "half"
    damaged = frame_at(root, SCENES[1], 6)
    content = damaged.read_bytes()
    damaged.write_bytes(content[:60])
    outcome = halve(root, out, workers=2)
    assert (outcome.made, len(outcome.failures)) == (8, 1)
    assert str(damaged) in str(outcome.failures[0])
    with pytest.raises(DataError):
        check_finished(out)
    damaged.write_bytes(content)
    assert halve(root, out, workers=2)[3:] == (1, 8, [])
    check_finished(out)


@pytest.mark.parametrize("render_pass", ["frames_cleanpass", "frames_finalpass"])
def test_flow_of_another_size_than_its_frame_is_named(render_pass: str, tmp_path: Path) -> None:
    root = tmp_path / "full"
    frame = root / render_pass / SCENES[0] / "left" / "0006.png"
    write_frame(frame, some_frame(0))
    write_flow(flow_at(root, SCENES[0], 6), np.zeros((HEIGHT, WIDTH + 2, 2), np.float32))
    outcome = halve(root, tmp_path / "half", workers=1)
    assert outcome.made == 1
    (failure,) = outcome.failures
    assert str(flow_at(root, SCENES[0], 6)) in str(failure)
    assert f"is 4 x 8, {frame} is 4 x 6" in str(failure)


def test_odd_sizes_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "full"
    write_frame(frame_at(root, SCENES[0], 6), some_frame(0)[:, :5])
    write_flow(flow_at(root, SCENES[0], 6), np.zeros((3, 4, 2), np.float32))
    failures = halve(root, tmp_path / "half", workers=1).failures
    sizes = [str(failure).rpartition("Received: ")[2] for failure in failures]
    assert sizes == ["4 x 5.", "3 x 4."]


def test_what_is_not_flyingthings3d_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other" / "training").mkdir(parents=True)
    with pytest.raises(MissingInputError, match=r"other\. Expected: frames_clean.*: training\."):
        halve(tmp_path / "other", tmp_path / "half", workers=1)
    with pytest.raises(MissingInputError, match="Received: nothing"):
        halve(tmp_path / "absent", tmp_path / "half", workers=1)
    assert not (tmp_path / "half").exists()
    root = write_tree(tmp_path / "full")
    with pytest.raises(OutputError, match="a folder of its own"):
        halve(root, tmp_path / "other" / ".." / "full", workers=1)


def test_half_size_flow_still_explains_half_size_frames(shared: Path, tmp_path: Path) -> None:
    things = shared / "data" / "FlyingThings3D_stereo"
    disparity = np.frombuffer(
        (things / "disparity/left/A-0032-0006.pfm").read_bytes()[-4 * 540 * 960 :], "<f4"
    ).reshape(540, 960)[::-1]
    root, out = tmp_path / "full", tmp_path / "half"
    scene = "TRAIN/A/0032"
    for number, side in ((6, "left"), (7, "right")):
        path = frame_at(root, scene, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(things / f"RGB_cleanpass/{side}/A-0032-0006.png")
    write_flow(flow_at(root, scene, 6), np.stack([-disparity, 0 * disparity], axis=-1))
    assert not halve(root, out, workers=2).failures
    flow, valid = read_flow(flow_at(out, scene, 6, ".flo"))
    frame1, frame2 = (read_frame(frame_at(out, scene, number)) for number in (6, 7))
    assert frame1.shape == frame2.shape == (270, 480, 3)
    assert right_reading_is_best(errors_of_readings(frame1, frame2, flow, valid > 0))


@pytest.mark.parametrize("error", [DiskFullError, ZeroDivisionError])
def test_a_full_disk_or_a_programming_error_stops_the_conversion(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, *_: object) -> None:
        raise error(f"{path} cannot be written: no space left")

    root = write_tree(tmp_path / "full")
    monkeypatch.setattr(halfres, "write_image", fail)
    with pytest.raises(error, match=r"\.png cannot be written: no space left"):
        halve(root, tmp_path / "half", workers=2)
    with pytest.raises(DataError, match="not complete"):
        check_finished(tmp_path / "half")


SLOW_CONVERSION = """
import signal, sys, time
from pathlib import Path
from pwc_exp.data import halfres

real = halfres._halve_file

def slow(item, target):
    time.sleep(0.1)
    real(item, target)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
halfres._halve_file = slow
print(halfres.halve(Path(sys.argv[1]), Path(sys.argv[2]), workers=3).kept)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_conversion_leaves_whole_files_and_is_continued(
    number: signal.Signals, tmp_path: Path
) -> None:
    root, out = tmp_path / "full", tmp_path / "half"
    for frame in range(40):
        write_frame(frame_at(root, SCENES[frame % 3], frame), some_frame(frame))
    command = [sys.executable, "-c", SLOW_CONVERSION, str(root), str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while len(list(out.rglob("[0-9]*.png"))) < 5 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
    done = list(out.rglob("[0-9]*.png"))
    assert process.returncode == -number
    assert 5 <= len(done) < 40
    with pytest.raises(DataError, match=r"half is not complete"):
        check_finished(out)
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(again.stdout) == len(done)
    check_finished(out)
    files = [path for path in out.rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(files) == 40
    for path in files:
        whole = halve_frame(some_frame(int(path.stem)))
        np.testing.assert_array_equal(np.rint(read_frame(path) * 255), whole)


def test_two_conversions_into_one_folder_make_each_output_once(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "full")
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: halve(root, tmp_path / "half", workers=2).made, range(2)))
    assert sorted(made) == [0, 9]


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "full")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OutputError, match="file"):
        halve(root, tmp_path / "file", workers=1)
