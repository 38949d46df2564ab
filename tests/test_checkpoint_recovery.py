"""Going on from a checkpoint: exact to the bit, never from a damaged one, never silently at 0."""

import json
import logging
import math
import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from pwc_exp import checkpoints
from pwc_exp.errors import DataError, MissingInputError

STATE = {"model/kernel": np.arange(64, dtype=np.float32), "optimizer/step": np.array(7)}
OTHER_NAN = struct.unpack(">d", bytes.fromhex("fff8000000000bad"))[0]


def save(
    folder: Path,
    step: int = 1,
    state: Mapping[str, checkpoints.Variable | np.ndarray] = STATE,
    progress: Mapping[str, checkpoints.Scalar] | None = None,
) -> Path:
    return checkpoints.save(
        folder, step=step, state=state, metrics={}, fingerprint={}, progress=progress or {}
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def bits(value: object) -> object:
    return struct.pack(">d", value) if isinstance(value, float) else value


def test_progress_comes_back_with_the_same_types_and_bits(tmp_path: Path) -> None:
    progress: dict[str, checkpoints.Scalar] = {
        "zero": 0,
        "large": 2**63 + 1,
        "whole": 1.0,
        "negative_zero": -0.0,
        "tenth": 0.1,
        "tiny": 5e-324,
        "huge": 1.7976931348623157e308,
        "nan": math.nan,
        "other_nan": OTHER_NAN,
        "infinity": math.inf,
        "minus_infinity": -math.inf,
        "word": "naïve\n\u2028",
        "no_number": "nan",
        "empty": "",
        "yes": True,
    }
    path = save(tmp_path, progress=progress)
    read = checkpoints.load(path).manifest.progress
    assert list(read) == list(progress)
    for key, value in progress.items():
        assert type(read[key]) is type(value), key
        assert bits(read[key]) == bits(value), key
    text = (path / checkpoints.MANIFEST_FILE).read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize("value", [None, [1], np.float32(1), np.int64(1)])
def test_progress_of_another_type_is_refused(tmp_path: Path, value: checkpoints.Scalar) -> None:
    with pytest.raises(TypeError, match=r"best must be a number or a string. Received: \w+"):
        save(tmp_path, progress={"best": value})
    assert names(tmp_path) == []


def test_newest_intact_of_nothing_is_none(tmp_path: Path) -> None:
    (tmp_path / ".tmp-step-00000001.0").mkdir()
    assert checkpoints.newest_intact(tmp_path) is None
    assert checkpoints.newest_intact(tmp_path / "absent") is None


def test_newest_intact_is_the_last_by_step(tmp_path: Path) -> None:
    paths = [save(tmp_path, step) for step in (100_000_000, 99_999_999)]
    checkpoint = checkpoints.newest_intact(tmp_path)
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.path) == (100_000_000, paths[0])


@pytest.mark.parametrize("name", [checkpoints.STATE_FILE, checkpoints.MANIFEST_FILE])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(
    damage: Callable[[Path], object], name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    for step in (2, 3):
        damage(tmp_path / f"step-0000000{step}" / name)
    checkpoint = checkpoints.newest_intact(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 1
    assert names(tmp_path) == [
        ".corrupt-step-00000002",
        ".corrupt-step-00000003",
        "step-00000001",
    ]
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.name for record in warnings] == ["pwc_exp.checkpoints"] * 2
    for record, step in zip(warnings, (3, 2), strict=True):
        assert (
            f"/step-0000000{step} is set aside as .corrupt-step-0000000{step}: " in record.message
        )
        assert record.message.count("\n") == 0


def test_what_was_set_aside_is_never_overwritten_nor_removed(tmp_path: Path) -> None:
    save(tmp_path, 1)
    for _ in range(3):
        (save(tmp_path, 2) / checkpoints.STATE_FILE).write_bytes(b"")
        assert checkpoints.newest_intact(tmp_path) is not None
    checkpoints.retain(tmp_path, keep_best=0, key="val/aepe")
    corrupt = [f".corrupt-step-00000002{suffix}" for suffix in ("", "-2", "-3")]
    assert names(tmp_path) == [*corrupt, "step-00000001"]


def test_damaged_checkpoints_only_are_never_step_zero(tmp_path: Path) -> None:
    for step in range(1, 8):
        (save(tmp_path, step) / checkpoints.STATE_FILE).write_bytes(b"")
    before = names(tmp_path)
    for _ in range(2):  # the second time too
        with pytest.raises(DataError, match=r"damaged checkpoints only: .*step-00000007/.*, …"):
            checkpoints.newest_intact(tmp_path)
    assert names(tmp_path) == before


def test_state_that_the_disk_cannot_read_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    read_bytes = Path.read_bytes

    def failing(path: Path) -> bytes:
        if "step-00000002" in str(path):
            raise OSError(5, "Input/output error")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    checkpoint = checkpoints.newest_intact(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 1


def damage_at_random(path: Path, rng: random.Random) -> str:
    """Flips one bit, or cuts the end off, and says what was done."""
    file = path / rng.choice([checkpoints.STATE_FILE, checkpoints.MANIFEST_FILE])
    data = bytearray(file.read_bytes())
    position = rng.randrange(len(data))
    if rng.random() < 0.7:
        bit = rng.randrange(8)
        data[position] ^= 1 << bit
        done = f"{file.name}: bit {bit} of byte {position}"
    else:
        del data[position:]
        done = f"{file.name}: {position} bytes left"
    file.write_bytes(data)
    return done


@pytest.mark.parametrize("change", [lambda text: text[:-1], lambda text: text + " "])
def test_manifest_in_other_words_is_damaged(change: Callable[[str], str], tmp_path: Path) -> None:
    path = save(tmp_path)
    file = path / checkpoints.MANIFEST_FILE
    file.write_text(change(file.read_text()))
    with pytest.raises(DataError, match=r"manifest.json is damaged"):
        checkpoints.load(path)


def test_hundred_random_damages_of_a_hundred_are_noticed(tmp_path: Path) -> None:
    rng = random.Random(0)
    used = []
    for number in range(100):
        folder = tmp_path / str(number)
        save(folder, 1)
        newest = save(folder, 2, {"model/kernel": -STATE["model/kernel"]}, {"best": math.nan})
        done = damage_at_random(newest, rng)
        with pytest.raises((DataError, MissingInputError)):
            checkpoints.load(newest)
        checkpoint = checkpoints.newest_intact(folder)
        assert checkpoint is not None, done
        assert checkpoint.step == 1, done
        for name, array in STATE.items():
            np.testing.assert_array_equal(checkpoint.arrays[name], array, err_msg=done)
        used.append(done)
    assert len(set(used)) > 90
