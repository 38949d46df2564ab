"""Halving and fetching as commands: what they print, and how they end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pwc_exp import data_commands
from pwc_exp.build import index
from pwc_exp.data.fetch import Fetched
from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import write_pfm
from pwc_exp.data_commands import fetch, halfres
from pwc_exp.errors import ConfigError, DataError, MissingInputError

Configure = Callable[..., Any]


def write_things(root: Path, frames: int = 3) -> Path:
    """One scene of FlyingThings3D."""
    frames_of = root / "frames_cleanpass/TRAIN/A/0000/left"
    flows_of = root / "optical_flow/TRAIN/A/0000/into_future/left"
    for folder in (frames_of, flows_of):
        folder.mkdir(parents=True)
    for number in range(6, 6 + frames):
        write_image(frames_of / f"{number:04d}.png", np.full((8, 12, 3), 10 * number, np.uint8))
        flow = np.full((8, 12, 2), (4, -2), np.float32)
        write_pfm(flows_of / f"OpticalFlowIntoFuture_{number:04d}_L.pfm", flow)
    return root


def test_a_halved_tree_is_read_as_a_data_set_and_not_made_twice(
    configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = (f"root={write_things(tmp_path / 'full')}", f"out={tmp_path}/half")
    halfres(configure("data_halfres", *places))
    assert "6 made, 0 there already" in capsys.readouterr().out
    halfres(configure("data_halfres", *places))
    assert "0 made, 6 there already" in capsys.readouterr().out
    data = ("data=flyingthings3d_halfres", f"data.root={tmp_path}/half")
    assert len(index(configure("train", *data).data)) == 2


def test_a_file_that_cannot_be_halved_ends_the_command_and_the_half_tree_is_refused(
    configure: Configure, tmp_path: Path
) -> None:
    root = write_things(tmp_path / "full")
    next(root.rglob("*0007_L.pfm")).write_bytes(b"PF\n")
    with pytest.raises(DataError, match=r"1 files could not be halved. The first: .*0007_L\.pfm"):
        halfres(configure("data_halfres", f"root={root}", f"out={tmp_path}/half"))
    data = ("data=flyingthings3d_halfres", f"data.root={tmp_path}/half")
    with pytest.raises(DataError, match="not complete"):
        index(configure("train", *data).data)


def test_the_licence_is_accepted_by_name_and_only_then(
    configure: Configure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def note(entry: Any, root: Path, *, accept_licence: bool, keep_archives: bool) -> Fetched:
        asked.append((entry.name, root, accept_licence, keep_archives))
        return Fetched((), (), () if accept_licence else ("a.zip",))

    monkeypatch.setattr(data_commands, "fetch_entry", note)
    sintel = ("data=sintel", f"data.root={tmp_path}/new")
    fetch(configure("data_fetch", *sintel))
    assert "accept_licence=true" in capsys.readouterr().out
    fetch(configure("data_fetch", *sintel, "accept_licence=true", "keep_archives=true"))
    assert "accept_licence=true" not in capsys.readouterr().out
    place = tmp_path / "new"
    assert asked == [("sintel", place, False, False), ("sintel", place, True, True)]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (["data=kitti", "data.root=r"], "entry must be one of kitti2012, kitti2015. Received"),
        (["data=synthetic"], "entry must be one of sintel, .*Received: synthetic"),
        (["data=sintel", "data.root=r", "entry=sintl"], "entry must be one of sintel. Rec.*sintl"),
    ],
)
def test_what_the_catalogue_lacks_is_refused_with_what_it_has(
    data: list[str], line: str, configure: Configure
) -> None:
    with pytest.raises(ConfigError, match=line):
        fetch(configure("data_fetch", *data))


def test_a_data_set_behind_a_form_is_refused_with_its_page(configure: Configure) -> None:
    with pytest.raises(MissingInputError, match="tartanair cannot be fetched. See https://"):
        fetch(configure("data_fetch", "data=tartanair", "data.root=r"))
