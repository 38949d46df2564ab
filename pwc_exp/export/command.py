"""The command: every requested format, each compared with the network; or nothing at all.

<out>/<format>/...          the files of a format
<out>/<format>/card.json    units, order, sizes, weights, versions, differences
<out>/parity.json           the differences of all formats from the network
"""

import json
import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tensorflow as tf
from tqdm import tqdm

import pwc_exp
from pwc_exp import machine, storage
from pwc_exp.config.commands import DEFAULT_FORMATS, ExportConfig, Format
from pwc_exp.config.training import InferencePrecision
from pwc_exp.export.formats import CARD_FILE, EXTRA, KINDS, network_runner
from pwc_exp.export.parity import Difference, Shape, check, make_case
from pwc_exp.tracking.provenance import library_versions
from pwc_exp.weights import Network, load_network

PARITY_FILE = "parity.json"
COPIES = 3  # of the weights, that a format takes at most
CONVENTIONS = {
    "input": "frame1, frame2: uint8 [batch, height, width, 3], RGB, consecutive frames",
    "output": "flow: float32 [batch, height, width, 2]",
    "units": "pixels of the frames",
    "order": "x (right), y (down)",
    "direction": "from frame1 to frame2",
    "preprocessing": "inside: values to 0 .. 1, padding to what the network divides, and back",
}


def export(config: ExportConfig) -> None:
    """Writes the network in each format, compares their flows, and prints the differences.

    Raises:
        OutputError: `out` exists or cannot be written.
        ParityError: a format differs from the network; then `out` is not created.
    """
    out = Path(config.out)
    formats = list(dict.fromkeys(config.formats or installed_formats()))
    network = load_network(
        run=config.run,
        weights=config.weights,
        model=config.model,
        precision=InferencePrecision.fp32,
    )
    tf.get_logger().setLevel(logging.ERROR)  # it warns that each size is traced anew
    shapes = {
        name: [
            Shape(*each) for each in (config.compared if KINDS[name].any_size else config.shapes)
        ]
        for name in formats
    }
    runner = network_runner(network.model)
    every = dict.fromkeys(shape for of_format in shapes.values() for shape in of_format)
    cases = {shape: make_case(runner, shape) for shape in every}
    found: dict[Format, list[Difference]] = {}
    needed = COPIES * len(formats) * 4 * network.model.count_params()
    with storage.folder(out, needed=needed) as folder:
        for name in tqdm(formats, desc="export", leave=False, disable=None):
            kind, place = KINDS[name], folder / name
            place.mkdir()
            kind.write(network.model, place, shapes[name])
            chosen = [cases[shape] for shape in shapes[name]]
            found[name] = check(name, kind.engines(place), chosen, kind.bound)
            card = {
                "format": name,
                **CONVENTIONS,
                "shapes": "any" if kind.any_size else shapes[name],
                **describe_network(network),
                "versions": _versions(),
                "bound_px": kind.bound._asdict(),
                "differences_px": [each._asdict() for each in found[name]],
            }
            storage.write_file(place / CARD_FILE, json.dumps(card, indent=2).encode())
        rows = [{"format": name, **each._asdict()} for name in found for each in found[name]]
        storage.write_file(folder / PARITY_FILE, json.dumps(rows, indent=2).encode())
    print(_table(out, found))
    print(f"{out}: {', '.join(found)}")


def installed_formats() -> list[Format]:
    """The default formats, without those whose packages are missing; a line names each of these."""
    formats = []
    for name in DEFAULT_FORMATS:
        missing = [package for package in name.packages if find_spec(package) is None]
        if not missing:
            formats.append(name)
            continue
        command = machine.install_command(EXTRA)
        print(f"{name}: left out; {', '.join(missing)} not installed: {command}")
    return formats


def describe_network(network: Network) -> dict[str, Any]:
    """Which network, with which weights."""
    return {"model": network.model.get_config(), "weights": network.info.record()}


def _versions() -> dict[str, str]:
    extra = [package for package in Format.onnx.packages if find_spec(package)]
    versions = {package: version(package) for package in extra}
    return {"pwc_exp": pwc_exp.__version__, **library_versions(), **versions}


def _table(out: Path, found: Mapping[Format, Sequence[Difference]]) -> str:
    """The differences, a line for each batch."""
    lines = [
        "difference from the network, in pixels",
        f"{'format':<12}{'MB':>8}  {'in':<14}{'batch x height x width':<24}"
        f"{'mean':>10}{'largest':>10}",
    ]
    for name, differences in found.items():
        files = [path for path in (out / name).rglob("*") if path.is_file()]
        size = f"{sum(path.stat().st_size for path in files) / 1e6:.2f}"
        for engine, shape, mean, largest in differences:
            row = f"{name:<12}{size:>8}  {engine:<14}{shape!s:<24}{mean:>10.1e}{largest:>10.1e}"
            lines.append(row)
    return "\n".join(lines)
