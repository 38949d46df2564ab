"""The data command: what it prints, writes and refuses; on small trees and on real pairs."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pwc_exp import data_commands
from pwc_exp.build import index
from pwc_exp.data.fetch import Fetched
from pwc_exp.data.formats.images import read_frame, write_image
from pwc_exp.data.formats.io import read_flow, write_flo, write_pfm
from pwc_exp.data_commands import check, fetch, halfres, list_samples, show, stats
from pwc_exp.errors import ConfigError, DataError, MissingInputError

Configure = Callable[..., Any]


def make_set(root: Path, pairs: int = 6) -> Path:
    """Pairs of noise that moves by (3, -2), as a folder with patterns of names."""
    rng = np.random.default_rng(3)
    for number in range(pairs):
        world = rng.integers(0, 256, (60, 80, 3), np.uint8)
        world = np.repeat(np.repeat(world[::4, ::4], 4, axis=0), 4, axis=1)
        (root / "a").mkdir(parents=True, exist_ok=True)
        write_image(root / f"a/{number}_1.png", world[8:56, 8:72])
        write_image(root / f"a/{number}_2.png", world[10:58, 5:69])
        flow = np.full((48, 64, 2), (3, -2), np.float32)
        write_flo(root / f"a/{number}_f.flo", flow)
    return root


def chosen(root: Path, **changed: str) -> list[str]:
    knobs = {"frame1": "*/*_1.png", "frame2": "*/*_2.png", "flow": "*/*_f.flo"} | changed
    return [
        "data=folder",
        f"data.root={root}",
        "data.crop=[16,32]",
        *(f"data.{name}={value}" for name, value in knobs.items()),
    ]


def test_check_of_a_sound_set_says_so_and_writes_a_report(
    configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(configure("data_check", *chosen(make_set(tmp_path / "set")), f"out={tmp_path}/out"))
    printed = capsys.readouterr().out
    assert "errors     none" in printed
    assert "flow convention   standard" in printed
    report = json.loads((tmp_path / "out/report.json").read_text())["folder"]
    assert (report["pairs"], report["errors"]) == (6, [])
    assert report["convention"]["verdict"] == "standard"
    assert not (tmp_path / "out/quarantine.txt").exists()


def test_check_names_every_bad_pair_and_lists_them_for_training_to_leave_out(
    configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_set(tmp_path / "set")
    (root / "a/1_f.flo").write_bytes((root / "a/1_f.flo").read_bytes()[:-4])
    (root / "a/4_2.png").write_bytes(b"")
    with pytest.raises(DataError, match="2 pairs are unusable.*data.quarantine=.*quarantine.txt"):
        check(configure("data_check", *chosen(root), f"out={tmp_path}/out"))
    printed = capsys.readouterr().out
    assert "a/1_f.flo" in printed
    assert "a/4_2.png" in printed
    listed = (tmp_path / "out/quarantine.txt").read_text().splitlines()
    assert [line.partition("\t")[0] for line in listed] == ["a/1", "a/4"]


def test_check_names_all_files_that_are_missing(
    configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_set(tmp_path / "set")
    rows = [f"a/{n}_1.png,a/{n}_2.png,a/{n}_f.flo" for n in range(6)]
    manifest = tmp_path / "pairs.csv"
    manifest.write_text("\n".join(["frame1,frame2,flow", *rows]))
    (root / "a/2_f.flo").unlink()
    (root / "a/5_1.png").unlink()
    data = ("data=csv", f"data.root={root}", f"data.manifest={manifest}")
    with pytest.raises(DataError, match="2 pairs are unusable"):
        check(configure("data_check", *data, f"out={tmp_path}/out"))
    printed = capsys.readouterr().out
    assert "a/2_f.flo" in printed
    assert "a/5_1.png" in printed


def test_check_refuses_flow_of_another_convention(
    configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_set(tmp_path / "set")
    for path in root.glob("a/*.flo"):
        write_flo(path, read_flow(path)[0][..., ::-1])
    with pytest.raises(DataError, match="flow of folder is y first"):
        check(configure("data_check", *chosen(root), f"out={tmp_path}/out"))


def test_check_goes_through_all_parts_of_a_mix(configure: Configure, tmp_path: Path) -> None:
    root = make_set(tmp_path / "one")
    make_set(tmp_path / "two")
    (tmp_path / "two/a/3_f.flo").write_bytes(b"PIEH")
    patterns = "frame1:'*/*_1.png',frame2:'*/*_2.png',flow:'*/*_f.flo'"
    parts = ",".join(f"{{name:folder,root:{place},{patterns}}}" for place in ("one", "two"))
    mix = ("data=mix", f"data.root={root.parent}", f"data.parts=[{parts}]")
    with pytest.raises(DataError, match="1 pairs are unusable"):
        check(configure("data_check", *mix, f"out={tmp_path}/out"))
    listed = (tmp_path / "out/quarantine.txt").read_text()
    assert listed.startswith("folder-2/a/3\t")


def test_only_files_can_be_checked_and_listed(configure: Configure) -> None:
    for task, command in ((check, "data_check"), (list_samples, "data_index")):
        with pytest.raises(ConfigError, match="synthetic"):
            task(configure(command, "data=synthetic"))


def test_stats_count_every_pixel_of_files_and_of_generated_scenes(
    configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"out={tmp_path}/out"
    stats(configure("data_stats", *chosen(make_set(tmp_path / "set")), out))
    found = json.loads((tmp_path / "out/stats.json").read_text())
    assert (found["examples"], found["known"]) == (6, 6 * 48 * 64)
    assert found["mean"] == pytest.approx(13**0.5)
    stats(configure("data_stats", "data=synthetic", "data.crop=[32,48]", "samples=3", out))
    found = json.loads((tmp_path / "out/stats.json").read_text())
    assert (found["examples"], found["pixels"]) == (3, 3 * 32 * 48)


def test_a_list_of_samples_is_read_back_as_the_same_samples(
    configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_set(tmp_path / "set")
    listed = configure(
        "data_index", *chosen(root, valid="*/*_1.png"), f"out={tmp_path}/new/pairs.csv"
    )
    list_samples(listed)
    with (tmp_path / "new/pairs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6
    data = ("data=csv", f"data.root={root}", f"data.manifest={tmp_path}/new/pairs.csv")
    again = index(configure("data_index", *data).data)
    before = index(listed.data)
    assert [s._replace(split=None) for s in again] == [s._replace(split=None) for s in before]
    splits = {sample.split for sample in again}
    assert splits == {"train", "val"}


def test_a_list_keeps_the_stride_of_flow_that_is_larger_than_the_frames(
    configure: Configure, tmp_path: Path
) -> None:
    scene = tmp_path / "spring/train/0001"
    for place in ("frame_left/frame_left_0001.png", "frame_left/frame_left_0002.png"):
        (scene / place).parent.mkdir(parents=True, exist_ok=True)
        (scene / place).touch()
    (scene / "flow_FW_left").mkdir()
    (scene / "flow_FW_left/flow_FW_left_0001.flo5").touch()
    spring = ("data=spring", f"data.root={tmp_path}/spring")
    list_samples(configure("data_index", *spring, f"out={tmp_path}/pairs.csv"))
    again = ("data=csv", f"data.root={tmp_path}/spring", f"data.manifest={tmp_path}/pairs.csv")
    assert [sample.flow_stride for sample in index(configure("data_index", *again).data)] == [2]


def test_a_list_on_the_terminal_counts_pairs_by_scene(
    configure: Configure, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sintel = ("data=sintel", f"data.root={shared}/data/MPI-Sintel", "data.render_pass=both")
    list_samples(configure("data_index", *sintel))
    assert capsys.readouterr().out.splitlines() == [
        "train      6  alley_1  (clean/alley_1/frame_0001 .. final/alley_1/frame_0003)",
        "val        2  cave_2  (clean/cave_2/frame_0002 .. final/cave_2/frame_0002)",
        "8 pairs, 2 of them in val",
    ]


def test_samples_are_drawn_as_training_sees_them(configure: Configure, tmp_path: Path) -> None:
    root = make_set(tmp_path / "set")
    picture = tmp_path / "new/samples.png"
    for augment in ("none", "modern"):
        drawn = ("samples=3", f"augment={augment}", f"out={picture}")
        show(configure("data_show", *chosen(root), *drawn))
        assert read_frame(picture).std() > 0.1
        picture.unlink()


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
