"""Views and occlusion, against what frame 2 shows where the flow leads."""

import numpy as np
import pytest
import tensorflow as tf
from numpy_warp import sample
from scenes import HEIGHT, MOVING, WIDTH, eroded, source_of

from pwc_exp.data.formats.headers import Size
from pwc_exp.data.synthetic import rendering
from pwc_exp.data.synthetic.rendering import Drawing, Rendered, make_renderer

SIZE = Size(HEIGHT, WIDTH)
SETTINGS = MOVING | {"speed_shares": [0.2, 0.5, 0.3], "coherence": 0.2, "layers": 7, "soft": 0.2}
SCENES = 6


def render(drawing: Drawing) -> Rendered:
    drawing = tf.nest.map_structure(tf.constant, drawing)
    texels = source_of(SETTINGS).textures.texels
    rendered = make_renderer(SIZE, rounds=6, fog=False)(drawing, texels)
    return tf.nest.map_structure(lambda part: part.numpy(), rendered)


def drawn() -> list[Drawing]:
    source = source_of(SETTINGS)
    return [source.draw(index) for index in range(SCENES)]


@pytest.fixture(scope="module")
def scenes() -> list[Rendered]:
    return [render(drawing) for drawing in drawn()]


def targets(scene: Rendered) -> tuple[np.ndarray, np.ndarray]:
    """Where the points of frame 1 lie in frame 2: x and y, [H, W] each."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return columns + scene.motions[0][0], rows + scene.motions[0][1]


def test_a_point_is_hidden_where_frame_2_shows_another_layer(scenes: list[Rendered]) -> None:
    """Two pixels and more from the edges of frame 2, where a pixel's layer is that of the point."""
    counts = np.zeros(2, int)
    for scene in scenes:
        layer1, layer2 = scene.layers
        away = np.logical_or.reduce([eroded(layer2 == number) for number in range(8)])
        x, y = (np.rint(part).astype(int) for part in targets(scene))
        inside = (x >= 0) & (y >= 0) & (x < WIDTH) & (y < HEIGHT)
        checked = inside & away[np.clip(y, 0, HEIGHT - 1), np.clip(x, 0, WIDTH - 1)]
        assert checked.mean() > 0.2
        other = layer2[y[checked], x[checked]] != layer1[checked]
        assert (scene.hidden[checked] == other).mean() > 0.998
        counts += [np.count_nonzero(other), np.count_nonzero(~other)]
    assert counts.min() > 500


def test_what_is_visible_is_led_back_by_the_motion_that_frame_2_shows(
    scenes: list[Rendered],
) -> None:
    moved = []
    for scene in scenes:
        x, y = targets(scene)
        back = np.moveaxis(scene.motions[1], 0, -1)
        seen = ~scene.hidden & (x > 3) & (y > 3) & (x < WIDTH - 4) & (y < HEIGHT - 4)
        away = np.logical_or.reduce([eroded(scene.layers[1] == number, 3) for number in range(8)])
        seen[seen] = away[np.rint(y[seen]).astype(int), np.rint(x[seen]).astype(int)]
        assert seen.sum() > 300
        forward = np.moveaxis(scene.motions[0], 0, -1)[seen]
        assert np.abs(forward - sample(back, x[seen], y[seen])).max() < 0.05
        moved.append(np.abs(forward).mean())
    assert np.mean(moved) > 1


def painted(edge: float) -> list[Rendered]:
    """Scenes whose things are white before a black background."""
    source = source_of(SETTINGS | {"edge": edge, "soft": 0.0, "tint": 0.0, "shading": 0.0})
    scenes = []
    for index in range(SCENES):
        drawing = source.draw(index)
        end = drawing.numbers.shape[-1] - 1
        drawing.numbers[..., end - 12 - 9 : end - 6 - 6] = 0  # colours of the texture
        means = drawing.numbers[..., end - 12 : end - 6]
        means[:, :, :3] = 0
        means[:, :, 3:] = 1
        means[:, 0] = 0
        scenes.append(render(drawing))
    return scenes


def test_a_pixel_is_as_white_as_it_is_covered_and_edges_are_as_wide_as_asked() -> None:
    def partly_covered(edge: float) -> int:
        count = 0
        for scene in painted(edge):
            for frame, layer in zip(scene.frames, scene.layers, strict=True):
                assert frame.min() >= 0
                assert frame.max() <= 1
                np.testing.assert_array_equal(frame[0], frame[2])
                covered = np.logical_and.reduce([frame[0] > 0.998, layer > 0])
                assert covered.mean() > 0.05
                count += int(((frame[0] > 0.02) & (frame[0] < 0.98)).sum())
        return count

    one = partly_covered(1.0)
    assert one > 500
    assert 2.0 < partly_covered(3.0) / one < 3.6


def test_boxes_cut_nothing_off(scenes: list[Rendered], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_MARGIN", 1e4)
    for scene, drawing in zip(scenes, drawn(), strict=True):
        whole = render(drawing)
        for part, other in zip(tf.nest.flatten(scene), tf.nest.flatten(whole), strict=True):
            np.testing.assert_allclose(part, other, atol=2e-3)
