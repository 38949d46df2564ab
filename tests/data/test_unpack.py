import bz2
import io
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pwc_exp.data.fetch import Unpacked, unpack
from pwc_exp.errors import DataError, MissingInputError, OutputError

_random = random.Random(0)
FLOW, FRAME = _random.randbytes(5000), _random.randbytes(3000)  # do not compress
FILES = {"set/training/flow/a.flo": FLOW, "set/training/clean/a.png": FRAME, "set/README": b"read"}
SIZE = len(FLOW) + len(FRAME) + 4


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def tar_of(path: Path, *infos: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as file:
        for info in infos:
            file.addfile(info)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def make_any(folder: Path, suffix: str, files: dict[str, bytes]) -> Path:
    path = folder / f"set{suffix}"
    if suffix == ".zip":
        return make_zip(path, files)
    return make_tar(path, files, "w:" + {".tar": ""}.get(suffix, suffix.rpartition(".")[2]))


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


SUFFIXES = [".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_unpacks_to_the_same_files(tmp_path: Path, suffix: str) -> None:
    archive = make_any(tmp_path, suffix, FILES)
    root = tmp_path / "root"
    assert unpack(archive, root) == Unpacked(files=3, size=SIZE, kept=0)
    assert tree(root) == FILES
    assert sorted(path.name for path in root.iterdir()) == ["set"]  # nothing is left over


def test_streams_of_a_parallel_bzip2_are_all_read(tmp_path: Path) -> None:
    plain = make_any(tmp_path, ".tar", FILES).read_bytes()
    archive = tmp_path / "set.tar.bz2"
    archive.write_bytes(bz2.compress(plain[:3000]) + bz2.compress(plain[3000:]))
    unpack(archive, tmp_path / "root")
    assert tree(tmp_path / "root") == FILES


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_leading_folder_is_left_out(tmp_path: Path, suffix: str) -> None:
    archive = make_any(tmp_path, suffix, {"./set/": b"", **FILES} if suffix == ".zip" else FILES)
    unpack(archive, tmp_path / "root", strip="set")
    expected = {name.removeprefix("set/"): content for name, content in FILES.items()}
    assert tree(tmp_path / "root") == expected


def test_files_that_are_there_are_kept_untouched(tmp_path: Path) -> None:
    root = tmp_path / "root"
    archive = make_any(tmp_path, ".zip", FILES)
    there = root / "set" / "README"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"mine")
    assert unpack(archive, root) == Unpacked(files=3, size=SIZE, kept=1)
    assert tree(root) == FILES | {"set/README": b"mine"}


@pytest.mark.parametrize("suffix", SUFFIXES[:2])
def test_a_file_of_another_size_stops_before_anything_is_moved(tmp_path: Path, suffix: str) -> None:
    root = tmp_path / "root"
    there = root / "set" / "README"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"my own")
    refused(make_any(tmp_path, suffix, FILES), root, f"{there} exists already")
    assert tree(root) == {"set/README": b"my own"}


def test_a_folder_where_a_file_should_be_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "set" / "README").mkdir(parents=True)
    refused(make_any(tmp_path, ".zip", FILES), root, "exists already")
    (root / "set" / "README").rmdir()
    (root / "set").rmdir()
    (root / "set").write_bytes(b"a file")
    refused(make_any(tmp_path, ".zip", FILES), root, "exists already")


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    root = tmp_path / "root"
    left = root / ".tmp-set.zip" / "set" / "half"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    unpack(make_any(tmp_path, ".zip", FILES), root)
    assert tree(root) == FILES


def refused(archive: Path, root: Path, words: str, **options: int) -> None:
    before = tree(root) if root.is_dir() else {}
    with pytest.raises((DataError, OutputError), match=words) as caught:
        unpack(archive, root, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert str(archive) in str(caught.value) or str(root) in str(caught.value)
    assert tree(root) == before
    assert not list(root.glob(".tmp-*"))


def zip_with(path: Path, name: str, mode: int, content: bytes = b"target") -> Path:
    with zipfile.ZipFile(path, "w") as file:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        file.writestr(info, content)
    return path


def zip_claiming(path: Path, size: int) -> Path:
    """A zip whose directory says that its one file of 5000 bytes has another size."""
    make_zip(path, {"a.flo": b"0" * 5000})
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    path.write_bytes(data)
    return path


def encrypted(path: Path) -> Path:
    make_zip(path, {"a.flo": FLOW})
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    return path


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "zip ..": (lambda p: make_zip(p, {"../out": FLOW}), "no plain relative path"),
    "zip .. within": (lambda p: make_zip(p, {"a/../../out": FLOW}), "no plain relative path"),
    "zip absolute": (lambda p: make_zip(p, {f"{p.parent}/out": FLOW}), "no plain relative path"),
    "zip drive": (lambda p: make_zip(p, {"C:/out": FLOW}), "no plain relative path"),
    "zip backslash": (lambda p: make_zip(p, {"..\\out": FLOW}), "no plain relative path"),
    "zip control character": (lambda p: make_zip(p, {"a\nb": FLOW}), "no plain relative path"),
    "zip link": (lambda p: zip_with(p, "a", stat.S_IFLNK | 0o777), "a link"),
    "zip device": (lambda p: zip_with(p, "a", stat.S_IFCHR | 0o666), "a device or pipe"),
    "zip larger than it says": (lambda p: zip_claiming(p, 4000), "Damaged archive"),
    "zip smaller than it says": (lambda p: zip_claiming(p, 6000), "Damaged archive"),
    "zip encrypted": (encrypted, "encrypted"),
    "zip bomb": (
        lambda p: make_zip(p, {"a": bytes(2**26 + 1)}),
        "unpacks to 67108865 bytes or more",
    ),
    "tar ..": (lambda p: make_tar(p, {"../out": FLOW}), "no plain relative path"),
    "tar absolute": (lambda p: make_tar(p, {f"{p.parent}/out": FLOW}), "no plain relative path"),
    "tar symlink out": (lambda p: tar_of(p, member("a", tarfile.SYMTYPE, "../../etc")), "a link"),
    "tar symlink in": (lambda p: tar_of(p, member("a", tarfile.SYMTYPE, "b")), "a link"),
    "tar hard link": (lambda p: tar_of(p, member("a", tarfile.LNKTYPE, "/etc/passwd")), "a link"),
    "tar device": (lambda p: tar_of(p, member("a", tarfile.CHRTYPE)), "a device or pipe"),
    "tar pipe": (lambda p: tar_of(p, member("a", tarfile.FIFOTYPE)), "a device or pipe"),
    "tar nameless": (lambda p: make_tar(p, {".": FLOW}), "a file without a name"),
    "tar twice": (lambda p: tar_of(p, member("a/b"), member("./a//b")), "twice"),
    "tar file as folder": (lambda p: tar_of(p, member("a"), member("a/b")), "twice, or as"),
    "tar folder as file": (lambda p: tar_of(p, member("a/b"), member("a")), "twice, or as"),
    "tar deep": (lambda p: make_tar(p, {"a/" * 2000 + "b": FLOW}), "in 2001 folders"),
    "tar long name": (lambda p: make_tar(p, {"a" * 300: FLOW}), "cannot be written"),
    "tar bomb": (
        lambda p: make_tar(p, {"a": bytes(2**26 + 1)}, "w:bz2"),
        "unpacks to 67108865 bytes or more",
    ),
    "tar cut": (lambda p: cut(make_tar(p, {"a": FLOW, "b": FRAME}, "w"), 4000), "Damaged archive"),
    "tar cut between files": (
        lambda p: cut(make_tar(p, {"a": FLOW, "b": FRAME}), 512 + 5120),
        "Damaged archive.*broken off",
    ),
    "tar header damaged": (
        lambda p: spoiled(make_tar(p, {"a": FLOW, "b": FRAME}), 512 + 5120),
        "Damaged archive.*broken off",
    ),
    "tar of negative size": (lambda p: negative(make_tar(p, {"a": FLOW})), "Damaged archive"),
    "gzip checksum": (lambda p: spoiled(make_tar(p, {"a": FLOW}, "w:gz"), -8), "Damaged archive"),
    "zip name no text": (
        lambda p: nameless(make_zip(p, {"\u00e9\u00e9": FLOW})),
        "Damaged archive",
    ),
    "gzip cut": (
        lambda p: cut(make_tar(p, {"a": FLOW, "b": FRAME}, "w:gz"), 4000),
        "Damaged archive",
    ),
    "bzip2 cut": (
        lambda p: cut(make_tar(p, {"a": FLOW, "b": FRAME}, "w:bz2"), 4000),
        "Damaged archive",
    ),
    "xz damaged": (lambda p: spoiled(make_tar(p, {"a": FLOW}, "w:xz")), "Damaged archive"),
    "zip damaged": (lambda p: spoiled(make_zip(p, {"a": FLOW})), "Damaged archive"),
    "zip cut": (lambda p: cut(make_zip(p, {"a": FLOW, "b": FLOW}), 8000), "Damaged archive"),
    "text": (lambda p: write(p, b"<html>" * 500), "Damaged archive"),
    "empty": (lambda p: write(p, b""), "Empty file"),
}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def cut(path: Path, size: int) -> Path:
    assert path.stat().st_size > size
    return write(path, path.read_bytes()[:size])


def spoiled(path: Path, place: int = 2000) -> Path:
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    return write(path, bytes(data))


def negative(path: Path) -> Path:
    """Gives the one file of a tar the size -512, with a header whose checksum is right."""
    data = bytearray(path.read_bytes())
    data[124:136] = b"\xff" + (2**88 - 512).to_bytes(11, "big")
    data[148:156] = b" " * 8
    data[148:155] = f"{sum(data[:512]):06o}\0".encode()
    return write(path, bytes(data))


def nameless(path: Path) -> Path:
    """Replaces the name in a zip by bytes that are no UTF-8."""
    return write(path, path.read_bytes().replace("\u00e9\u00e9".encode(), b"\xff\xff\xff\xff"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_writes_nothing(tmp_path: Path, name: str) -> None:
    make, words = HOSTILE[name]
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    archive = make(folder / "set")
    refused(archive, folder / "root", words)
    assert {path.name for path in tmp_path.rglob("*")} == {"deep", "er", "set", "root"}


def test_many_tiny_files_are_refused(tmp_path: Path) -> None:
    files = {f"{number}": b"" for number in range(11)}
    for suffix in SUFFIXES[:2]:
        archive = make_any(tmp_path, suffix, files)
        refused(archive, tmp_path / "root", "more than 10 files", max_members=10)
        unpack(archive, tmp_path / f"root{suffix}", max_members=11)


def test_bytes_are_counted_over_all_files(tmp_path: Path) -> None:
    for suffix in SUFFIXES[:2]:
        archive = make_any(tmp_path, suffix, FILES)
        refused(archive, tmp_path / "root", "Expected 8003 at most", max_bytes=SIZE - 1)
        unpack(archive, tmp_path / f"root{suffix}", max_bytes=SIZE)


@pytest.mark.parametrize("suffix", SUFFIXES[:2])
def test_a_disk_without_space_is_reported_before_it_is_full(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_any(tmp_path, suffix, FILES)
    usage = SimpleNamespace(free=SIZE - 1)
    monkeypatch.setattr("pwc_exp.data.fetch.shutil.disk_usage", lambda _: usage)
    refused(archive, tmp_path / "root", r"0\.0 GB are free")


def test_files_get_no_rights_from_the_archive(tmp_path: Path) -> None:
    archive = zip_with(tmp_path / "set.zip", "run", stat.S_IFREG | 0o4777)
    unpack(archive, tmp_path / "root")
    assert not (tmp_path / "root" / "run").stat().st_mode & 0o7111


def test_an_interrupted_extraction_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pwc_exp.data.fetch._move", interrupt)
    with pytest.raises(KeyboardInterrupt):
        unpack(make_any(tmp_path, ".zip", FILES), tmp_path / "root")
    assert tree(tmp_path / "root") == {}


def test_a_missing_archive_is_reported(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="No such"):
        unpack(tmp_path / "none.zip", tmp_path / "root")
