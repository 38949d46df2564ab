"""metrics.jsonl: one line for each point, `{"step": …, "time": …, "values": {…}}`.

JSON has no NaN and no infinity; they are the strings "nan", "inf" and "-inf". All other values come
back with the same bits.
"""

import json
import math
from pathlib import Path

from pwc_exp import durable
from pwc_exp.tracking.events import Point


def append(path: Path, point: Point) -> None:
    """Adds a line; it is with the operating system when this returns.

    Raises:
        OutputError: the line cannot be written.
    """
    values = {
        key: value if math.isfinite(value) else str(value) for key, value in point.values.items()
    }
    durable.append_line(path, json.dumps({**point._asdict(), "values": values}, allow_nan=False))


def read(path: Path) -> list[Point]:
    """Reads all points. A last line that a dying process did not finish is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last newline
    points = [Point(**json.loads(line)) for line in lines]
    return [
        point._replace(values={key: float(value) for key, value in point.values.items()})
        for point in points
    ]
