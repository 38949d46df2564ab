"""Outlines: distances against those to a fine polyline, dents, strands."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.data.synthetic.outlines import (
    FAR,
    STRAND,
    OutlineLimits,
    Outlines,
    draw_outlines,
    edge_distance,
    hole_distance,
)

DIAGONAL = 400.0
COUNT = 30
LIMITS = OutlineLimits(
    radius=(0.04, 0.22), concave=0.0, thin=0.0, holes=0.0, edge=1.5, soft=0.0, soft_edge=16.0
)


def drawn(**limits: Any) -> tuple[Outlines, np.ndarray]:
    """Outlines around the origin, the first without an end."""
    radius = DIAGONAL * np.geomspace(0.04, 0.22, COUNT)
    radius[0] = FAR
    return draw_outlines(
        np.random.default_rng(1),
        np.zeros((COUNT, 2)),
        radius,
        diagonal=DIAGONAL,
        limits=LIMITS._replace(**limits),
    )


def layer_of(outlines: Outlines, number: int) -> Outlines:
    parts = [tf.constant(part[number]) for part in outlines]
    return Outlines(*(tf.cast(p, tf.int32 if p.dtype == tf.int64 else tf.float32) for p in parts))


def distances(outlines: Outlines, layer: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    tables = tf.constant(outlines.table, tf.float32)
    points = [tf.constant(part, tf.float32) for part in (x, y)]
    return edge_distance(layer_of(outlines, layer), tables, tf.constant(layer), *points).numpy()


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
    assert np.mean([not is_convex(edge) for edge in drawn(concave=1.0)[1][1:]]) > 0.85


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


@pytest.mark.parametrize("kind", ["thin", "holes"])
def test_the_share_of_strands_and_of_things_with_holes_is_as_asked(kind: str) -> None:
    def chosen(share: float) -> np.ndarray:
        outlines, _ = drawn(**{kind: share})
        return outlines.form == STRAND if kind == "thin" else outlines.holes[:, 1] > 0

    assert not chosen(0.0).any()
    assert not chosen(1.0)[0]
    assert chosen(1.0)[1:].all()
    assert 0.2 < chosen(0.4)[1:].mean() < 0.6


def test_holes_are_round_and_lie_in_a_lattice() -> None:
    outlines, _ = drawn(holes=1.0)
    one = layer_of(outlines, 3)
    pitch, radius = outlines.holes[3]
    cos, sin = outlines.strand[3, :2]
    steps = np.arange(-3, 4)
    x, y = (pitch * steps * part for part in (cos, sin))
    at_centres = hole_distance(one, tf.constant(x, tf.float32), tf.constant(y, tf.float32))
    np.testing.assert_allclose(at_centres, radius, atol=1e-3)
    half = pitch / 2 * np.array([cos, sin])
    between = hole_distance(
        one, tf.constant(half[:1], tf.float32), tf.constant(half[1:], tf.float32)
    )
    assert between.numpy()[0] == pytest.approx(radius - pitch / 2, abs=1e-3)
    assert 0 < radius < pitch / 2


def test_soft_edges_are_between_the_usual_edge_and_the_softest() -> None:
    assert (drawn()[0].edge == 1.5).all()
    edge = drawn(soft=0.5)[0].edge
    assert 0.2 < (edge > 1.5).mean() < 0.8
    assert 6 < edge.max() <= 16


def test_a_layer_is_cut_off_along_a_line_and_shapes_keep_to_their_radii() -> None:
    outlines, edges = drawn(concave=0.5)
    outlines.cuts[0, 1] = [0.6, 0.8, -10.0]
    measured = distances(outlines, 0, np.array([0.0, 60.0]), np.array([0.0, 80.0]))
    np.testing.assert_allclose(measured, [-10, 90], atol=1e-3)
    reach = np.linalg.norm(edges[1:], axis=2).max(axis=1) / DIAGONAL
    assert reach.min() > 0.02
    assert reach.max() < 0.22 * math.e
