"""The command: every format that is asked for, each held to the network; or nothing at all."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from pwc_exp import storage
from pwc_exp.config.commands import ExportConfig, Format
from pwc_exp.config.training import InferencePrecision
from pwc_exp.errors import OutputError
from pwc_exp.exporting import card, keras_archive
from pwc_exp.exporting.engine import Shape
from pwc_exp.exporting.formats import KINDS
from pwc_exp.exporting.parity import Difference, check, make_cases
from pwc_exp.weights import load_network

PARITY_FILE = "parity.json"
COPIES = 3  # of the weights, that a format takes at most


def export(config: ExportConfig) -> None:
    """Writes the network in each format, compares what they give, and prints the differences.

    Raises:
        OutputError: `out` is there already.
        ParityError: a format is not the network; then `out` is not there.
    """
    out = Path(config.out)
    if out.exists():
        raise OutputError(f"out: {out} is there already; choose another folder")
    network = load_network(
        run=config.run,
        weights=config.weights,
        model=config.model,
        precision=InferencePrecision.fp32,
    )
    tf.get_logger().setLevel(logging.ERROR)  # it warns that each size is traced anew
    fixed = [Shape(*shape) for shape in config.shapes]
    compared = [Shape(*shape) for shape in config.compared]
    formats = {name: KINDS[name] for name in config.formats}
    asked = [shape for kind in formats.values() for shape in (compared if kind.any_size else fixed)]
    cases = make_cases(keras_archive.runner(network.model), dict.fromkeys(asked))
    size = 4 * network.model.count_params()
    found: dict[Format, list[Difference]] = {}
    with storage.folder(out, needed=COPIES * len(formats) * size) as folder:
        for name, kind in tqdm(formats.items(), desc="export", leave=False, disable=None):
            place = folder / name
            place.mkdir()
            kind.write(network.model, place, fixed)
            chosen = [cases[shape] for shape in (compared if kind.any_size else fixed)]
            found[name] = check(name, kind.engines(place), chosen, kind.bound)
            shapes = "any" if kind.any_size else [list(shape) for shape in fixed]
            described = card.make(
                network, name, shapes=shapes, bound=kind.bound, differences=found[name]
            )
            card.write(place, described)
        storage.write_file(folder / PARITY_FILE, _parity(found))
    print(table(found, {name: _megabytes(out / name) for name in found}))


def table(found: Mapping[Format, Sequence[Difference]], megabytes: Mapping[Format, float]) -> str:
    """The differences, a line for each batch."""
    lines = [
        "difference from the network, in pixels",
        f"{'format':<12}{'MB':>8}  {'in':<14}{'batch x height x width':<24}"
        f"{'mean':>10}{'largest':>10}",
    ]
    for name, differences in found.items():
        for engine, shape, mean, largest in differences:
            size = f"{megabytes[name]:.2f}"
            row = f"{name:<12}{size:>8}  {engine:<14}{shape!s:<24}{mean:>10.1e}{largest:>10.1e}"
            lines.append(row)
    return "\n".join(lines)


def _parity(found: Mapping[Format, Sequence[Difference]]) -> bytes:
    rows = [
        {"format": name, **difference._asdict(), "shape": list(difference.shape)}
        for name, differences in found.items()
        for difference in differences
    ]
    return json.dumps(rows, indent=2).encode()


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
