"""metrics.jsonl: the same bits come back, each (step, key) once, whatever ended the process."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tracked import point

from pwc_exp import storage
from pwc_exp.errors import DataError, OutputError
from pwc_exp.tracking import journal
from pwc_exp.tracking.events import Point
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
    assert journal.repair(path) == points
    assert path.read_bytes() == whole
    journal.append(path, point(2))
    assert journal.read(path) == [*points, point(2)]


def test_cut_reaches_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.append(path, point(0))
    path.write_bytes(path.read_bytes() + b"{")
    cuts = []
    monkeypatch.setattr(storage, "truncate", lambda path, size: cuts.append(size))
    journal.repair(path)
    assert cuts == [path.stat().st_size - 1]


def test_damage_before_the_end_is_an_error_that_names_the_line(path: Path) -> None:
    for step in range(3):
        journal.append(path, point(step))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"oops\n" + lines[2])
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: .*oops"):
        Journal(path)


def test_a_replayed_step_keeps_its_first_values_and_time(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Journal(path)
    first.add(1, {"loss": 0.5, "nan": math.nan, "time/data_wait": 0.1})
    first.add(2, {"loss": 0.25})
    written = path.read_bytes()
    again = Journal(path)
    assert repr(again.points) == repr(journal.read(path))
    assert again.add(1, {"loss": 0.5, "nan": math.nan, "time/data_wait": 0.7}) is None
    assert again.add(2, {"loss": 0.25}) is None
    assert path.read_bytes() == written
    assert again.mismatches == 0
    assert caplog.messages == []
    assert again.history("loss") == {1: 0.5, 2: 0.25}


def test_only_the_keys_that_a_step_lacks_are_added(path: Path) -> None:
    kept = Journal(path)
    kept.add(1, {"loss": 0.5})
    added = kept.add(1, {"loss": 0.5, "val/aepe": 2.0})
    assert added is not None
    assert added.values == {"val/aepe": 2.0}
    assert [written.values for written in journal.read(path)] == [{"loss": 0.5}, {"val/aepe": 2.0}]


@pytest.mark.parametrize("value", [math.nextafter(0.5, 1), math.nan, -0.5])
def test_other_bits_of_a_replayed_step_are_counted_and_told_once(
    path: Path, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    kept = Journal(path)
    for step in (1, 2):
        kept.add(step, {"loss": 0.5})
    for step in (1, 2):
        kept.add(step, {"loss": value})
    assert kept.mismatches == 2
    assert kept.history("loss") == {1: 0.5, 2: 0.5}
    (message,) = caplog.messages
    assert message.startswith("step 1, computed again, gives loss=")


def test_zero_and_minus_zero_are_different_bits(path: Path) -> None:
    kept = Journal(path)
    kept.add(1, {"loss": 0.0})
    kept.add(1, {"loss": -0.0})
    assert kept.mismatches == 1


def test_flush_syncs_the_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    kept = Journal(path)
    monkeypatch.setattr(storage, "sync_file", synced.append)
    kept.flush()
    assert synced == [path]


def test_a_point_that_is_not_written_is_not_remembered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Journal(path)

    def refuse(path: Path, line: str) -> None:
        raise OutputError("full")

    with monkeypatch.context() as full:
        full.setattr(storage, "append_line", refuse)
        with pytest.raises(OutputError):
            kept.add(1, {"loss": 0.5})
    assert isinstance(kept.add(1, {"loss": 0.5}), Point)
