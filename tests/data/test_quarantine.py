"""The list of samples that are left out: what is written is read, and nothing is doubled."""

from pathlib import Path

import pytest

from pwc_exp.data import quarantine
from pwc_exp.errors import DataError, MissingInputError


def test_a_written_list_is_read_as_it_was(tmp_path: Path) -> None:
    reasons = {"alley_1/frame 1": "no such file: x.png", "größe": "is\tin\ntwo lines"}
    quarantine.write(tmp_path / "quarantine.txt", reasons)
    assert quarantine.read(tmp_path / "quarantine.txt") == {
        "alley_1/frame 1": "no such file: x.png",
        "größe": "is in two lines",
    }
    quarantine.write(tmp_path / "quarantine.txt", {})
    assert quarantine.read(tmp_path / "quarantine.txt") == {}


def test_a_line_that_is_no_entry_is_reported_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.txt"
    for line in (b"only an id", b"id\t", b"\treason"):
        path.write_bytes(b"a\tdamaged\n\n" + line + b"\n")
        with pytest.raises(DataError, match=rf"line 3 of {path}"):
            quarantine.read(path)
    path.write_bytes(b"a\t\xff\n")
    with pytest.raises(DataError, match="Expected UTF-8"):
        quarantine.read(path)
    with pytest.raises(MissingInputError, match="none.txt"):
        quarantine.read(tmp_path / "none.txt")


def test_a_list_edited_on_windows_is_read_and_of_an_id_the_first_reason(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xef\xbb\xbfa\tdamaged\r\nb\tempty\r\n\r\na\tempty\r\n")
    assert quarantine.read(tmp_path / "list") == {"a": "damaged", "b": "empty"}


def test_appending_twice_writes_one_line_and_keeps_the_first_reason(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.txt"
    assert quarantine.append(path, "a", "truncated")
    assert quarantine.append(path, "ab", "empty\nfile")
    assert not quarantine.append(path, "a", "another reason")
    assert path.read_bytes() == b"a\ttruncated\nab\tempty file\n"


def test_appending_to_a_line_without_end_begins_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.txt"
    path.write_bytes(b"a\ttruncated")
    assert quarantine.append(path, "b", "empty")
    assert quarantine.read(path) == {"a": "truncated", "b": "empty"}


@pytest.mark.parametrize("sample_id", ["", "a\tb", "a\nb"])
def test_an_id_that_would_break_the_list_is_refused(sample_id: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Expected an id"):
        quarantine.append(tmp_path / "list", sample_id, "reason")
    assert not (tmp_path / "list").exists()
