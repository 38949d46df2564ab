"""Rendered films: MPI-Sintel and Spring. A scene is a sequence."""

from pathlib import Path

from pwc_exp.data.datasets.layout import Tree, one_or_both, pair_starts
from pwc_exp.data.sample import Sample

_SPRING_STEPS = {"forward": ("FW", 1), "backward": ("BW", -1)}


def sintel(root: Path, *, render_pass: str) -> list[Sample]:
    """MPI-Sintel training pairs of the pass `clean`, `final` or `both`.

    The ids of `both` begin with the pass; the two pairs of one flow share a scene.
    """
    passes = one_or_both("render_pass", render_pass, ("clean", "final"))
    training = root / "training"
    tree = Tree(
        root,
        f"training/{passes[0]}/alley_1/frame_0001.png, training/flow/alley_1/frame_0001.flo",
    )
    for name in passes:
        tree.require(training / name)
    folders = [training / name for name in (*passes, "flow")]
    scenes = sorted({scene for folder in folders for scene in tree.folders(folder)})
    return tree.complete(
        sample
        for name in passes
        for scene in scenes
        for sample in _sintel_scene(tree, name, scene, f"{name}/" if len(passes) > 1 else "")
    )


def _sintel_scene(tree: Tree, render_pass: str, scene: str, prefix: str) -> list[Sample]:
    frames, flows, invalid, occlusions = (
        tree.root / "training" / name / scene
        for name in (render_pass, "flow", "invalid", "occlusions")
    )
    starts = pair_starts(
        tree.numbers(frames, "frame_", ".png"), tree.numbers(flows, "frame_", ".flo"), step=1
    )
    samples = []
    for number in starts:
        name = f"frame_{number:04d}"
        mask, hidden = invalid / f"{name}.png", occlusions / f"{name}.png"
        samples.append(
            Sample(
                id=f"{prefix}{scene}/{name}",
                scene=scene,
                frame1=frames / f"{name}.png",
                frame2=frames / f"frame_{number + 1:04d}.png",
                flow=flows / f"{name}.flo",
                invalid=mask if tree.has(mask) else None,
                occlusion=hidden if tree.has(hidden) else None,
            )
        )
    return samples


def spring(root: Path, *, camera: str, direction: str) -> list[Sample]:
    """Spring training pairs: camera `left`, `right` or `both`, `forward`, `backward` or `both`.

    The flow files have twice the rows and columns of the frames, and values in pixels of the
    frames. Cameras and directions share a scene.
    """
    cameras = one_or_both("camera", camera, ("left", "right"))
    directions = one_or_both("direction", direction, tuple(_SPRING_STEPS))
    flow = f"flow_{_SPRING_STEPS[directions[0]][0]}_{cameras[0]}"
    first = f"train/0001/frame_{cameras[0]}/frame_{cameras[0]}_0001.png, train/0001/{flow}/..."
    tree = Tree(root, first)
    tree.require(root / "train")
    return tree.complete(
        sample
        for scene in tree.folders(root / "train")
        for side in cameras
        for way in directions
        for sample in _spring_scene(tree, scene, side, way)
    )


def _spring_scene(tree: Tree, scene: str, camera: str, direction: str) -> list[Sample]:
    letters, step = _SPRING_STEPS[direction]
    frame, flow = f"frame_{camera}", f"flow_{letters}_{camera}"
    frames, flows = (tree.root / "train" / scene / name for name in (frame, flow))
    starts = pair_starts(
        tree.numbers(frames, f"{frame}_", ".png"),
        tree.numbers(flows, f"{flow}_", ".flo5"),
        step=step,
    )
    return [
        Sample(
            id=f"{scene}/{flow}/{number:04d}",
            scene=scene,
            frame1=frames / f"{frame}_{number:04d}.png",
            frame2=frames / f"{frame}_{number + step:04d}.png",
            flow=flows / f"{flow}_{number:04d}.flo5",
            flow_stride=2,
        )
        for number in starts
    ]
