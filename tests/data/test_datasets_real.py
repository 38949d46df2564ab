"""Indexes of the data sets' own files, and of real files by patterns and by a CSV file."""

from pathlib import Path

from pwc_exp.data.datasets import folder, from_manifest, kitti, known_pairs, sintel, unlabelled


def test_both_passes_of_sintel_are_found(shared: Path) -> None:
    root = shared / "data/MPI-Sintel"
    samples = sintel(root, render_pass="both")
    assert [sample.id for sample in samples[::4]] == [
        "clean/alley_1/frame_0001",
        "final/alley_1/frame_0001",
    ]
    assert [sample.scene for sample in samples] == [*["alley_1"] * 3, "cave_2"] * 2
    masked = [sample.id for sample in samples if sample.invalid]
    assert masked[0::2] == ["clean/alley_1/frame_0002", "final/alley_1/frame_0002"]


def test_kitti_is_told_apart_by_its_folders(shared: Path) -> None:
    for year, pairs in ((2012, 194), (2015, 200)):
        root = shared / f"data/kitti{year}"
        assert known_pairs("kitti", root, truth="noc") == pairs
        assert len(kitti(root, truth="noc")) == 1


def test_examples_of_chairs_with_other_names_are_read_by_patterns(shared: Path) -> None:
    root = shared / "data/FlyingChairs_examples_lmb"
    samples = folder(root, frame1="*-img0.ppm", frame2="*-img1.ppm", flow="*-gt.flo", valid=None)
    assert [sample.id for sample in samples] == ["0000000", "0000001"]
    assert samples[1].flow == root / "0000001-gt.flo"


def test_a_manifest_gives_the_index_of_its_data_set(shared: Path, tmp_path: Path) -> None:
    root = shared / "data/MPI-Sintel"
    samples = sintel(root, render_pass="clean")
    lines = ["id,scene,frame1,frame2,flow,invalid,occlusion"]
    for sample in samples:
        masks = (sample.invalid, sample.occlusion)
        paths = (sample.frame1, sample.frame2, sample.flow, *masks)
        cells = [path.relative_to(root).as_posix() if path else "" for path in paths]
        lines.append(",".join([sample.id, sample.scene, *cells]))
    manifest = tmp_path / "sintel.csv"
    manifest.write_text("\n".join(lines))
    assert any(sample.occlusion for sample in samples)
    assert from_manifest(root, manifest=manifest) == samples


def test_frames_of_a_real_folder_are_paired(shared: Path) -> None:
    root = shared / "data/MPI-Sintel/training/final/alley_1"
    ids = [sample.id for sample in unlabelled(root)]
    assert ids == ["frame_0001", "frame_0002", "frame_0003"]
