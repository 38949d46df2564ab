"""Outlines: distances against those to a fine polyline, dents, strands."""

import math

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.data.scenes.motion import Points
from pwc_exp.data.scenes.outlines import OutlineLimits, Outlines, draw_outlines, edge_distance

DIAGONAL = 400.0
COUNT = 30


def drawn(*, concave: float = 0.0, thin: float = 0.0) -> tuple[Outlines, np.ndarray]:
    outlines, points = draw_outlines(
        tf.constant([1, 2]), COUNT, diagonal=DIAGONAL, limits=OutlineLimits(concave, thin)
    )
    return outlines, points.numpy().astype(np.float64)


def distances(outlines: Outlines, layer: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    points = [tf.constant(part, tf.float32) for part in (x, y)]
    return edge_distance(outlines, Points(tf.fill([len(x)], layer), *points)).numpy()


def is_convex(polygon: np.ndarray) -> bool:
    side = np.roll(polygon, -1, axis=0) - polygon
    after = np.roll(side, -1, axis=0)
    cross = side[:, 0] * after[:, 1] - side[:, 1] * after[:, 0]
    return bool((cross > -1e-3 * np.abs(cross).max()).all())


@pytest.mark.parametrize("concave", [0.0, 1.0])
def test_distance_is_that_to_the_outline_near_it(concave: float) -> None:
    outlines, edges = drawn(concave=concave)
    shares = np.arange(8)[:, None, None] / 8
    for layer in range(1, COUNT):
        corners = edges[layer]
        fine = np.concatenate(corners + shares * (np.roll(corners, -1, axis=0) - corners))
        assert np.abs(distances(outlines, layer, *fine.T)).max() < 0.1
        near = corners * (1 + np.random.default_rng(layer).uniform(-0.05, 0.05, (len(corners), 1)))
        exact = np.linalg.norm(near[:, None] - fine, axis=2).min(axis=1)
        measured = distances(outlines, layer, *near.T)
        inward = np.linalg.norm(near, axis=1) < np.linalg.norm(corners, axis=1)
        assert (np.sign(measured) == np.where(inward, -1, 1))[exact > 0.2].all()
        # Only beside a corner is the nearest side another one.
        assert np.median(np.abs(np.abs(measured) - exact)) < 0.3


def test_concave_layers_have_dents_and_others_have_none() -> None:
    assert all(is_convex(edge) for edge in drawn(concave=0.0)[1][1:])
    assert np.mean([not is_convex(edge) for edge in drawn(concave=1.0)[1][1:]]) > 0.9


def test_the_background_is_everywhere() -> None:
    outlines, _ = drawn(concave=1.0, thin=1.0)
    corner = np.array([-DIAGONAL, 0.0, DIAGONAL])
    assert (distances(outlines, 0, corner, corner) < -1000).all()


def test_strands_are_long_and_a_few_pixels_wide() -> None:
    outlines, edges = drawn(thin=1.0)
    for layer in range(1, COUNT):
        x, y = (part.ravel() for part in np.meshgrid(*[np.arange(-200.0, 200.0)] * 2))
        inside = distances(outlines, layer, x, y) < 0
        length = np.linalg.norm(edges[layer][-1] - edges[layer][0])
        assert length >= 2 * 0.1 * DIAGONAL - 1
        assert 1.5 < inside.sum() / length < 10
        on_line = distances(outlines, layer, *edges[layer][1:-1].T)
        assert (on_line < 0).all()


def test_the_share_of_strands_is_as_asked() -> None:
    assert drawn(thin=0.0)[0].strands is None
    strands = drawn(thin=0.4)[0].strands
    assert strands is not None
    share = strands.is_strand.numpy()
    assert not share[0]
    assert 0.2 < share[1:].mean() < 0.6


def test_radii_differ_and_keep_within_the_frame() -> None:
    _, edges = drawn(concave=0.5)
    reach = np.linalg.norm(edges[1:], axis=2).max(axis=1) / DIAGONAL
    assert reach.min() > 0.02
    assert reach.max() < 0.22 * math.e
    assert reach.max() > 2.5 * reach.min()
