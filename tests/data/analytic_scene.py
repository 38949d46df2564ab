"""A disc before a background, both waves without pixels: frames, flow and visibility are exact."""

import numpy as np

from pwc_exp.data.sample import Example

HEIGHT, WIDTH = 240, 400
_CENTRE, _RADIUS = np.array([190.0, 130.0]), 60.0
_EDGE = 2.5  # px; nearer to the disc's edge pixels mix both
_LINEARS = np.array([[[1.02, -0.03], [0.02, 0.99]], [[0.97, 0.04], [-0.05, 1.03]]])
_SHIFTS = np.array([[3.3, -1.6], [-5.2, 2.7]])


def visible_example(seed: int) -> Example:
    """Numpy arrays; valid only where the scene is seen in both frames and away from edges."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([columns, rows], -1).astype(np.float64)
    targets = [
        _CENTRE + (pixels - _CENTRE) @ a.T + s for a, s in zip(_LINEARS, _SHIFTS, strict=True)
    ]
    origins = [
        _CENTRE + (pixels - _CENTRE - s) @ np.linalg.inv(a).T
        for a, s in zip(_LINEARS, _SHIFTS, strict=True)
    ]
    random = np.random.default_rng(seed)
    waves = [_Waves(random) for _ in _LINEARS]
    disc1, disc2 = _depth(pixels) > 0, _depth(origins[1]) > 0
    frame1 = np.where(disc1[..., None], waves[1].at(pixels), waves[0].at(pixels))
    frame2 = np.where(disc2[..., None], waves[1].at(origins[1]), waves[0].at(origins[0]))
    flow = np.where(disc1[..., None], targets[1], targets[0]) - pixels
    # A pixel of the background is hidden where its target lies behind the moved disc.
    behind = _depth(_CENTRE + (targets[0] - _CENTRE - _SHIFTS[1]) @ np.linalg.inv(_LINEARS[1]).T)
    visible = np.where(disc1, _depth(pixels) > _EDGE, np.maximum(_depth(pixels), behind) < -_EDGE)
    parts = (frame1, frame2, flow * visible[..., None], visible)
    return Example(*(part.astype(np.float32) for part in parts))


def _depth(points: np.ndarray) -> np.ndarray:
    """Distance into the disc of frame 1, negative outside."""
    return _RADIUS - np.linalg.norm(points - _CENTRE, axis=-1)


class _Waves:
    """A texture of wavelengths of 8 to 40 pixels, in [0.2, 1]."""

    def __init__(self, random: np.random.Generator) -> None:
        angles, lengths = random.uniform(0, 2 * np.pi, 12), random.uniform(8, 40, 12)
        self._vectors = 2 * np.pi / lengths * np.stack([np.cos(angles), np.sin(angles)])
        self._phases = random.uniform(0, 2 * np.pi, 12)
        self._colours = random.uniform(0, 1, (12, 3))
        self._colours /= self._colours.sum(axis=0)

    def at(self, points: np.ndarray) -> np.ndarray:
        """[..., 2] -> [..., 3]."""
        return 0.6 + 0.4 * np.sin(points @ self._vectors + self._phases) @ self._colours
