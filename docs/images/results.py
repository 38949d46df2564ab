"""Makes the pictures of docs/results.md: held-out generated scenes, their flow, and its estimate.

    python docs/images/results.py <weights or run>

The licences of the real pairs do not allow to publish them here. The textures are the photographs
that come with scikit-image.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont

import pwc_exp
from pwc_exp.build import build_source
from pwc_exp.config.composition import check, compose_command, register
from pwc_exp.config.data import Split
from pwc_exp.report.pictures import tiles

SCENES = range(4)  # the first ones
CAPTION = 18  # px


def main() -> None:
    """Writes results.webp beside this file."""
    register()
    config = check(compose_command("data_show", ["data=scenes"]).values, "data_show")
    source = build_source(config.data, Split.val)
    network = pwc_exp.load(sys.argv[1], "fp32")
    rows, font = [], ImageFont.load_default(11)
    for scene in SCENES:
        example = [np.asarray(part) for part in source.example(tf.constant(scene, tf.int64))]
        frame1, frame2, *_ = example
        drawn = tiles(*example, estimate=network(frame1, frame2))
        row = Image.fromarray(np.hstack(list(drawn.values())))
        captioned = Image.new("RGB", (row.width, row.height + CAPTION), "white")
        captioned.paste(row, (0, CAPTION))
        for place, caption in enumerate(drawn):
            left = place * row.width // len(drawn) + 4
            ImageDraw.Draw(captioned).text((left, 3), caption, fill="black", font=font)
        rows.append(np.asarray(captioned))
    path = Path(__file__).with_name("results.webp")
    Image.fromarray(np.vstack(rows)).save(path, quality=80)
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
