"""Makes the README's animation: a generated video beside its colour-coded flow.

    python docs/images/animation.py           # the ground truth
    python docs/images/animation.py fast      # the flow of these weights, or of a run

The frames move three photographs that come with scikit-image and are free to use: coffee
(Rachel Michetti, CC0), astronaut (NASA, public domain), Chelsea (Stefan van der Walt, CC0).
"""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from skimage.draw import ellipse
from skimage.transform import AffineTransform, warp

import pwc_exp
from pwc_exp import flow_to_image

HEIGHT, WIDTH, FRAMES = 240, 360, 36
MAX_SPEED = 12.0  # px per frame, the speed of full colour


def placements(t: float) -> list[AffineTransform]:
    """From the pixels of each photograph to those of the frame at time t, 0 to 1, back to front."""
    swing = np.sin(2 * np.pi * t)
    bounce = np.cos(2 * np.pi * t)
    return [
        AffineTransform(translation=(-120 + 25 * swing, -80 + 25 * bounce)),
        AffineTransform(scale=0.6, rotation=0.35 * swing, translation=(30 + 10 * bounce, 20))
        + AffineTransform(translation=(20 * swing, 12 * bounce)),
        AffineTransform(scale=0.52, translation=(150 - 45 * bounce, 60 + 40 * swing)),
    ]


def layers() -> list[tuple[np.ndarray, np.ndarray]]:
    """Photographs and masks, [H, W, 3] and [H, W], in [0, 1], back to front."""
    result = [(data.coffee() / 255.0, np.ones(data.coffee().shape[:2]))]
    for photograph, oval in (
        (data.astronaut()[:260, 100:340], (130, 120, 125, 95)),
        (data.chelsea()[:, 60:400], (150, 165, 145, 160)),
    ):
        mask = np.zeros(photograph.shape[:2])
        mask[ellipse(*oval, shape=mask.shape)] = 1.0
        result.append((photograph / 255.0, mask))
    return result


def render(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame [H, W, 3] in [0, 1], and its flow to the next frame [H, W, 2] in px, (x, y)."""
    frame, flow = np.zeros((HEIGHT, WIDTH, 3)), np.zeros((HEIGHT, WIDTH, 2), np.float32)
    grid = np.stack(np.mgrid[:HEIGHT, :WIDTH][::-1], -1).reshape(-1, 2)  # (x, y)
    moves = zip(placements(step / FRAMES), placements((step + 1) / FRAMES), strict=True)
    for (photograph, mask), (now, after) in zip(layers(), moves, strict=True):
        alpha = warp(mask, now.inverse, output_shape=(HEIGHT, WIDTH))[..., None]
        colours = warp(photograph, now.inverse, output_shape=(HEIGHT, WIDTH), mode="edge")
        frame = alpha * colours + (1 - alpha) * frame
        motion = (after(now.inverse(grid)) - grid).reshape(HEIGHT, WIDTH, 2)
        flow = np.where(alpha > 0.5, motion, flow).astype(np.float32)
    return frame, flow


def main() -> None:
    """Writes animation.webp beside this file."""
    rendered = [render(step) for step in range(FRAMES)]
    frames = [(255 * frame).round().astype(np.uint8) for frame, _ in rendered]
    flows = [flow for _, flow in rendered]
    if sys.argv[1:]:
        network = pwc_exp.load(sys.argv[1])
        flows = [network(*pair) for pair in pairwise([*frames, frames[0]])]
    pages = [
        Image.fromarray(np.hstack([frame, flow_to_image(flow, max_speed=MAX_SPEED)]))
        for frame, flow in zip(frames, flows, strict=True)
    ]
    path = Path(__file__).with_name("animation.webp")
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=60, loop=0, quality=60)
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
