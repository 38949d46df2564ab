"""The half-size tree: exact means, half the motion, nothing made twice or left half made."""

import errno
import fcntl
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy_warp import errors_of_readings, right_reading_is_best

from pwc_exp.data import halfres
from pwc_exp.data.conversion import Job, Outcome, convert
from pwc_exp.data.formats.images import read_frame, write_image
from pwc_exp.data.formats.io import read_flow, write_pfm
from pwc_exp.data.halfres import check_finished, halve, halve_flow, halve_frame
from pwc_exp.errors import DataError, MissingInputError, OutputError
from pwc_exp.storage import write_file

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
    assert summary == (6, 3, 1, Outcome(made=9, kept=0, failures=[]))
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


def test_not_a_number_becomes_what_flo_calls_unknown(tmp_path: Path) -> None:
    root, out = tmp_path / "full", tmp_path / "half"
    valid = np.ones((HEIGHT, WIDTH), np.float32)
    valid[:2, 2:4] = valid[2, 5] = 0
    flow = np.full((HEIGHT, WIDTH, 2), (3, -5), np.float32)
    write_flow(flow_at(root, SCENES[0], 6), flow, valid)
    assert halve(root, out, workers=1).outcome.made == 1
    path = flow_at(out, SCENES[0], 6, ".flo")
    half, known = read_flow(path)
    assert known.tolist() == [[1, 0, 1], [1, 1, 1]]
    np.testing.assert_array_equal(half[1, 2], (1.5, -2.5))
    assert struct.unpack_from("<f", path.read_bytes(), 12 + 8)[0] > 1e9


def test_an_interrupted_tree_says_so_and_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = write_tree(tmp_path / "full"), tmp_path / "half"
    real = halfres.write_image
    calls: list[Path] = []

    def write_three(path: Path, image: np.ndarray) -> None:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(path)
        real(path, image)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(halfres, "write_image", write_three)
        halve(root, out, workers=1)
    with pytest.raises(DataError, match=r"half is not complete"):
        check_finished(out)
    outcome = halve(root, out, workers=1).outcome
    assert outcome.made + outcome.kept == 9
    assert outcome.kept >= 3
    check_finished(out)
    assert halve(root, out, workers=1).outcome == Outcome(made=0, kept=9, failures=[])
    check_finished(out)


def test_a_damaged_file_is_named_and_the_rest_is_made(tmp_path: Path) -> None:
    root, out = write_tree(tmp_path / "full"), tmp_path / "half"
    damaged = frame_at(root, SCENES[1], 6)
    content = damaged.read_bytes()
    damaged.write_bytes(content[:60])
    outcome = halve(root, out, workers=2).outcome
    assert (outcome.made, len(outcome.failures)) == (8, 1)
    assert str(damaged) in str(outcome.failures[0])
    with pytest.raises(DataError):
        check_finished(out)
    damaged.write_bytes(content)
    assert halve(root, out, workers=2).outcome == Outcome(made=1, kept=8, failures=[])
    check_finished(out)


@pytest.mark.parametrize("render_pass", ["frames_cleanpass", "frames_finalpass"])
def test_flow_of_another_size_than_its_frame_is_named(render_pass: str, tmp_path: Path) -> None:
    root = tmp_path / "full"
    frame = root / render_pass / SCENES[0] / "left" / "0006.png"
    write_frame(frame, some_frame(0))
    write_flow(flow_at(root, SCENES[0], 6), np.zeros((HEIGHT, WIDTH + 2, 2), np.float32))
    outcome = halve(root, tmp_path / "half", workers=1).outcome
    assert outcome.made == 1
    (failure,) = outcome.failures
    assert str(flow_at(root, SCENES[0], 6)) in str(failure)
    assert f"is 4 x 8, {frame} is 4 x 6" in str(failure)


def test_odd_sizes_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "full"
    write_frame(frame_at(root, SCENES[0], 6), some_frame(0)[:, :5])
    write_flow(flow_at(root, SCENES[0], 6), np.zeros((3, 4, 2), np.float32))
    failures = halve(root, tmp_path / "half", workers=1).outcome.failures
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
    assert not halve(root, out, workers=2).outcome.failures
    flow, valid = read_flow(flow_at(out, scene, 6, ".flo"))
    frame1, frame2 = (read_frame(frame_at(out, scene, number)) for number in (6, 7))
    assert frame1.shape == frame2.shape == (270, 480, 3)
    assert right_reading_is_best(errors_of_readings(frame1, frame2, flow, valid > 0))


SIZE = 300_000  # bytes of an output of the slow conversion
SLOW_CONVERSION = f"""
import signal, sys, time
from pathlib import Path
from pwc_exp.data.conversion import Job, convert
from pwc_exp.storage import write_file

def work(number, path):
    time.sleep(0.02)
    write_file(path, bytes([number]) * {SIZE})

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
folder = Path(sys.argv[1])
jobs = [Job(number, folder / str(number % 3) / f"{{number}}.bin") for number in range(40)]
print(convert(jobs, work, folder=folder, workers=3, label="slow").kept)
"""


def jobs_in(folder: Path, count: int) -> list[Job[int]]:
    return [Job(number, folder / f"{number}.txt") for number in range(count)]


def write_number(number: int, path: Path) -> None:
    write_file(path, str(number).encode())


def run(
    jobs: list[Job[int]], folder: Path, work: Callable[[int, Path], None] = write_number
) -> Outcome:
    return convert(jobs, work, folder=folder, workers=2, label="test")


def test_only_what_is_missing_is_made(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path / "new" / "folder", 5)
    jobs[3].output.parent.mkdir(parents=True)
    jobs[3].output.write_text("mine")
    assert run(jobs, tmp_path) == Outcome(made=4, kept=1, failures=[])
    assert [job.output.read_text() for job in jobs] == ["0", "1", "2", "mine", "4"]


def test_refused_inputs_stop_nothing_and_are_tried_again(tmp_path: Path) -> None:
    damaged = {1, 4}

    def work(number: int, path: Path) -> None:
        if number in damaged:
            raise DataError(f"damaged {number}")
        write_number(number, path)

    jobs = jobs_in(tmp_path, 6)
    outcome = run(jobs, tmp_path, work)
    assert [str(failure) for failure in outcome.failures] == ["damaged 1", "damaged 4"]
    assert outcome[:2] == (4, 0)
    damaged.clear()
    assert run(jobs, tmp_path, work) == Outcome(made=2, kept=4, failures=[])


def test_a_full_disk_stops_the_conversion_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    started = []

    def work(number: int, path: Path) -> None:
        started.append(number)
        time.sleep(0.005)
        write_number(number, path)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"\.txt cannot be written: no space left") as caught:
        run(jobs_in(tmp_path, 100), tmp_path, work)
    assert "\n" not in str(caught.value)
    assert len(started) < 100
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_programming_error_is_not_taken_for_a_bad_input(tmp_path: Path) -> None:
    def work(_: int, __: Path) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(jobs_in(tmp_path, 2), tmp_path, work)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_conversion_leaves_whole_files_and_is_continued(
    number: signal.Signals, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", SLOW_CONVERSION, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 20
        while len(list(tmp_path.glob("*/[0-9]*.bin"))) < 5 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
    done = list(tmp_path.glob("*/[0-9]*.bin"))
    assert process.returncode == -number
    assert 5 <= len(done) < 40
    assert all(path.stat().st_size == SIZE for path in done)
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(again.stdout) == len(done)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert {path.name for path in files} == {f"{number}.bin" for number in range(40)}
    assert all(path.read_bytes() == bytes([int(path.stem)]) * SIZE for path in files)


def test_two_conversions_into_one_folder_make_each_output_once(tmp_path: Path) -> None:
    made = []

    def work(number: int, path: Path) -> None:
        made.append(number)
        time.sleep(0.005)
        write_number(number, path)

    jobs = jobs_in(tmp_path, 12)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda _: run(jobs, tmp_path, work), range(2)))
    assert sorted(made) == list(range(12))
    assert sorted(outcome.made for outcome in outcomes) == [0, 12]


def test_a_finished_conversion_writes_nothing(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 2)
    for job in jobs:
        write_number(job.item, job.output)
    assert run(jobs, tmp_path) == Outcome(made=0, kept=2, failures=[])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.txt", "1.txt"]


def test_a_file_system_without_locks_is_reported_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert run(jobs_in(tmp_path, 2), tmp_path).made == 2
    assert "one at a time" in caplog.text


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OutputError, match="file"):
        run(jobs_in(tmp_path / "file", 1), tmp_path / "file")
    (tmp_path / "folder" / ".lock").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"\.lock cannot be written"):
        run(jobs_in(tmp_path / "folder", 1), tmp_path / "folder")
