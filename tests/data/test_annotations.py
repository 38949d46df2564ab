"""Where examples come from, and the masks that only an evaluation reads."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from scenes import source_of

from pwc_exp.data.annotations import datasets, origins, read_annotations
from pwc_exp.data.datasets import kitti, sintel
from pwc_exp.data.formats.images import write_image
from pwc_exp.data.formats.io import write_flo, write_kitti_png
from pwc_exp.data.source import FileSource, MixedSource

SIZE = (4, 6)  # of all frames here


def image(path: Path, left: int) -> None:
    """Writes a picture that is white in its first columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[:, :left] = 255
    write_image(path, pixels)


def write_sintel(root: Path) -> FileSource:
    training = root / "training"
    for number in (1, 2, 3):
        image(training / f"clean/alley_1/frame_{number:04d}.png", 0)
    (training / "flow/alley_1").mkdir(parents=True)
    for number in (1, 2):
        flow = np.full((*SIZE, 2), number, np.float32)
        write_flo(training / f"flow/alley_1/frame_{number:04d}.flo", flow)
    image(training / "occlusions/alley_1/frame_0002.png", 2)
    image(training / "invalid/alley_1/frame_0002.png", 3)
    return FileSource("sintel", sintel(root, render_pass="clean"))


def write_kitti(root: Path, truth: str) -> FileSource:
    training = root / "training"
    for number in (10, 11):
        image(training / f"image_2/000000_{number}.png", 0)
    image(training / "obj_map/000000_10.png", 1)
    for name, known in (("flow_occ", 6), ("flow_noc", 4)):
        (training / name).mkdir(exist_ok=True)
        valid = np.zeros(SIZE)
        valid[:, :known] = 1
        write_kitti_png(training / name / "000000_10.png", np.zeros((*SIZE, 2)), valid)
    return FileSource("kitti", kitti(root, truth=truth))


def test_sintel_s_occlusions_and_what_its_invalid_mask_hides_are_read(tmp_path: Path) -> None:
    source = write_sintel(tmp_path)
    first, second = origins(source)
    assert (first.dataset, first.scene) == ("sintel", "alley_1")
    assert read_annotations(source, 0, first) == (None, None, None)
    found = read_annotations(source, 1, second)
    assert found.occlusion is not None and found.stored is not None
    assert found.occlusion.sum() == 8
    flow, known = found.stored
    assert (flow == 2).all() and known.all()
    assert source.example(tf.constant(1)).valid.numpy().sum() == 12


def test_kitti_s_hidden_pixels_are_those_that_noc_lacks(tmp_path: Path) -> None:
    source = write_kitti(tmp_path, "occ")
    found = read_annotations(source, 0, origins(source)[0])
    assert found.occlusion is not None and found.foreground is not None
    assert (found.occlusion.sum(), found.foreground.sum()) == (8, 4)
    assert found.stored is None
    noc = write_kitti(tmp_path, "noc")
    assert read_annotations(noc, 0, origins(noc)[0]).occlusion is None


def test_examples_of_a_mix_keep_their_data_set_and_scene(tmp_path: Path) -> None:
    roads = [write_kitti(tmp_path / name, "noc") for name in ("one", "two")]
    mix = MixedSource([roads[0], write_sintel(tmp_path / "film"), roads[1]], weights=None)
    found = origins(mix)
    assert datasets(found) == ["kitti-1", "sintel", "kitti-2"]
    assert [origin.scene for origin in found] == ["000000_10", "alley_1", "alley_1", "000000_10"]
    assert read_annotations(mix, 2, found[2]).occlusion is not None


def test_a_generator_knows_what_is_hidden() -> None:
    source = source_of(seed=1, size=(64, 96))
    found = read_annotations(source, 1, origins(source)[1]).occlusion
    np.testing.assert_array_equal(found, source.scene(tf.constant(1)).occlusion.numpy() > 0)
    assert found is not None and found.any()


def test_a_damaged_mask_is_named(tmp_path: Path) -> None:
    source = write_sintel(tmp_path)
    (tmp_path / "training/occlusions/alley_1/frame_0002.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="occlusions/alley_1/frame_0002.png"):
        read_annotations(source, 1, origins(source)[1])
