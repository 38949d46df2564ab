"""metrics.jsonl: the same bits come back, each (step, key) once, whatever ended the process."""

import json
import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from tracked import TREE, point

from pwc_exp import storage
from pwc_exp.errors import DataError, OutputError
from pwc_exp.tracking import journal
from pwc_exp.tracking.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / journal.FILE


def test_journal_gives_back_the_same_bits(path: Path) -> None:
    values = {"a": 0.1, "b": 1e-320, "c": math.inf, "d": -math.inf, "e": float(np.float32(1 / 3))}
    points = [point(0, **values, f=-0.0), point(1, nan=math.nan), point(2)]
    for written in points:
        journal.append(path, written)
    assert repr(journal.read(path)) == repr(points)
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize(
    "torn", [b'{"step": 2, "ti', b"\0" * 40, b"\0" * 40 + b"\n", b'{"step": 2}\n', b"7\n", b"\n\n"]
)
def test_what_a_dying_machine_left_at_the_end_is_cut_off(path: Path, torn: bytes) -> None:
    points = [point(step) for step in (0, 1)]
    for written in points:
        journal.append(path, written)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert journal.read(path) == points
    assert path.read_bytes() == whole + torn
    assert journal.repair(path, journal.point_reader(path.parent)) == points
    assert path.read_bytes() == whole
    journal.append(path, point(2))
    assert journal.read(path) == [*points, point(2)]


def test_cut_reaches_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.append(path, point(0))
    path.write_bytes(path.read_bytes() + b"{")
    cuts = []
    monkeypatch.setattr(storage, "truncate", lambda path, size: cuts.append(size))
    journal.repair(path, journal.point_reader(path.parent))
    assert cuts == [path.stat().st_size - 1]


def test_damage_before_the_end_is_an_error_that_names_the_line(path: Path) -> None:
    for step in range(3):
        journal.append(path, point(step))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"oops\n" + lines[2])
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: .*oops"):
        Journal(path.parent)


def test_a_replayed_step_keeps_its_first_values_and_time(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Journal(path.parent)
    first.add(1, {"loss": 0.5, "nan": math.nan, "time/data_wait": 0.1})
    first.add(2, {"loss": 0.25})
    written = path.read_bytes()
    again = Journal(path.parent)
    again.add(1, {"loss": 0.5, "nan": math.nan, "time/data_wait": 0.7})
    again.add(2, {"loss": 0.25})
    assert path.read_bytes() == written
    assert again.mismatches == 0
    assert caplog.messages == []
    assert again.history("loss") == {1: 0.5, 2: 0.25}


def test_only_the_keys_that_a_step_lacks_are_added(path: Path) -> None:
    kept = Journal(path.parent)
    kept.add(1, {"loss": 0.5})
    kept.add(1, {"loss": 0.5, "val/aepe": 2.0})
    assert [written.values for written in journal.read(path)] == [{"loss": 0.5}, {"val/aepe": 2.0}]


@pytest.mark.parametrize("value", [math.nextafter(0.5, 1), math.nan, -0.5])
def test_other_bits_of_a_replayed_step_are_counted_and_told_once(
    path: Path, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    kept = Journal(path.parent)
    for step in (1, 2):
        kept.add(step, {"loss": 0.5})
    for step in (1, 2):
        kept.add(step, {"loss": value})
    assert kept.mismatches == 2
    assert kept.history("loss") == {1: 0.5, 2: 0.5}
    (message,) = caplog.messages
    assert message.startswith("step 1, computed again, gives loss=")


def test_zero_and_minus_zero_are_different_bits(path: Path) -> None:
    kept = Journal(path.parent)
    kept.add(1, {"loss": 0.0})
    kept.add(1, {"loss": -0.0})
    assert kept.mismatches == 1


def test_flush_syncs_points_and_pictures(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    kept = Journal(path.parent)
    kept.add_picture(1, "val/a", TREE)
    monkeypatch.setattr(storage, "sync_file", synced.append)
    kept.flush()
    assert synced == [path, path.with_name(journal.PICTURE_FILE)]


def test_pictures_are_files_and_each_key_and_step_is_there_once(tmp_path: Path) -> None:
    keys = ["val/Ünï/a", "val/Ünï-a", "../" * 50]
    for _ in range(2):
        kept = Journal(tmp_path)
        for key in keys * 2:
            kept.add_picture(3, key, TREE)
        kept.add_picture(4, keys[0], TREE)
    pictures = journal.picture_reader(tmp_path).read()
    assert [(picture.step, picture.key) for picture in pictures] == [
        *((3, key) for key in keys),
        (4, keys[0]),
    ]
    files = {tmp_path / picture.file for picture in pictures}
    assert files == set((tmp_path / journal.PICTURES).iterdir())
    for file in files:
        np.testing.assert_array_equal(np.asarray(PIL.Image.open(file)), TREE)


def test_a_torn_list_of_pictures_is_repaired_and_the_picture_drawn_again(tmp_path: Path) -> None:
    Journal(tmp_path).add_picture(1, "val/a", TREE)
    list_of = tmp_path / journal.PICTURE_FILE
    whole = list_of.read_bytes()
    Journal(tmp_path).add_picture(2, "val/a", TREE)
    list_of.write_bytes(list_of.read_bytes()[:-9])
    again = Journal(tmp_path)
    assert list_of.read_bytes() == whole
    again.add_picture(2, "val/a", TREE)
    assert [picture.step for picture in journal.picture_reader(tmp_path).read()] == [1, 2]
    assert len(list((tmp_path / journal.PICTURES).iterdir())) == 2


def test_a_disk_without_room_costs_a_picture_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Journal(tmp_path)

    def refuse(path: Path, data: bytes) -> None:
        raise OutputError("full")

    with monkeypatch.context() as full:
        full.setattr(storage, "write_file", refuse)
        kept.add_picture(1, "val/a", TREE)
    assert caplog.messages == ["step 1: no picture val/a: full"]
    kept.add_picture(1, "val/a", TREE)
    assert len(journal.picture_reader(tmp_path).read()) == 1


def test_a_reader_follows_a_file_that_grows_by_whole_lines(path: Path) -> None:
    reader = journal.point_reader(path.parent)
    assert reader.read() == []
    for step in range(3):
        journal.append(path, point(step))
        with path.open("ab") as file:
            file.write(b'{"step"')
        assert reader.read() == [point(step)]
        path.write_bytes(path.read_bytes()[:-7])
    path.write_bytes(path.read_bytes() + b"oops\n" + path.read_bytes()[-60:])
    with pytest.raises(DataError, match=r"metrics\.jsonl:4: .*oops"):
        reader.read()


def test_a_point_that_is_not_written_is_not_remembered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Journal(path.parent)

    def refuse(path: Path, line: str) -> None:
        raise OutputError("full")

    with monkeypatch.context() as full:
        full.setattr(storage, "append_line", refuse)
        with pytest.raises(OutputError):
            kept.add(1, {"loss": 0.5})
    kept.add(1, {"loss": 0.5})
    assert journal.read(path)[-1].values == {"loss": 0.5}
