"""Weights for a network from another one of a different size or with other levels.

Variables with the same name and shape in both networks are copied. A level that is finer than all
levels of the source starts from the source's finest one, so that levels 6-3 can be trained first
and level 2 after them. Names here are relative to the network: `estimator3/conv0/kernel`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

Parts = dict[str, int]  # what a kernel reads, in order: {input: channels}

_LEVEL = re.compile(r"(estimator|context|up_flow|up_features)(\d+)/(.+)")


class Transfer(NamedTuple):
    """What a network takes from another one, by the names of its variables.

    values: the variables that are taken, in whole or in part, with all their numbers.
    renamed: those whose name in the source is another one, with that name.
    partial: those of which only some input channels are taken, with these inputs.
    fresh: those that keep their initial values.
    unused: variables of the source that are not taken.
    """

    values: dict[str, np.ndarray]
    renamed: dict[str, str]
    partial: dict[str, list[str]]
    fresh: list[str]
    unused: list[str]

    def summary(self) -> str:
        """One line: how many variables are taken, and which layers are not."""
        total = len(self.values) + len(self.fresh)
        text = f"took {len(self.values)} of {total} variables"
        if self.partial:
            text += f", in part: {_by_layer(self.partial)}"
        layers = {tuple(name.partition("/")[0] for name in pair) for pair in self.renamed.items()}
        if layers:
            text += f"; {', '.join(f'{mine} from {theirs}' for mine, theirs in sorted(layers))}"
        text += f"; fresh: {_by_layer(self.fresh) or 'none'}"
        return text + (f"; not used: {_by_layer(self.unused)}" if self.unused else "")

    def details(self) -> str:
        """A line for each variable: where it is from."""
        lines = []
        for name in sorted([*self.values, *self.fresh]):
            origin = "fresh" if name in self.fresh else f"from {self.renamed.get(name, name)}"
            if name in self.partial:
                origin += f", inputs {', '.join(self.partial[name])}; its other inputs are fresh"
            lines.append(f"{name}: {origin}")
        return "\n".join([*lines, *(f"not used: {name}" for name in self.unused)]) + "\n"


def match_overlap(
    target: Mapping[str, np.ndarray], source: Mapping[str, np.ndarray], *, unit_ratio: float
) -> Transfer:
    """Finds for each variable of `target`, a network with fresh weights, its value in `source`.

    Of a kernel that has other inputs in the source, the input channels that both networks have are
    taken: level 2's estimator reads other features than level 3's, but the same cost volume,
    up_flow and up_features.

    Args:
        target, source: all variables of the networks, by name.
        unit_ratio: a level's unit of flow in units of the next finer level: 1 if all levels have
            the same unit, 2 if each has the pixels of its own grid.
    """
    reads, inputs = _inputs_of(source), _inputs_of(target)
    source_name = _naming(source)
    found = Transfer({}, {}, {}, [], [])
    used = set()
    for name, fresh in target.items():
        origin = source_name(name)
        if origin not in source:
            found.fresh.append(name)
            continue
        value = source[origin]
        if origin != name:
            value = value * _unit_factor(name, origin, target, unit_ratio)
        if value.shape != fresh.shape:
            mine, theirs = inputs.get(name, {}), reads.get(origin, {})
            common = [part for part in mine if theirs.get(part) == mine[part]]
            axis = 3 if name.startswith("up_features") else 2  # of a kernel's inputs
            others = (shape[:axis] + shape[axis + 1 :] for shape in (value.shape, fresh.shape))
            if not common or len(set(others)) > 1:
                found.fresh.append(name)
                continue
            merged = np.moveaxis(fresh.copy(), axis, 0)
            for part in common:
                source_part = np.moveaxis(value, axis, 0)[_channels(theirs, part)]
                merged[_channels(mine, part)] = source_part
            value = np.moveaxis(merged, 0, axis)
            found.partial[name] = common
        used.add(origin)
        if origin != name:
            found.renamed[name] = origin
        found.values[name] = value
    found.unused.extend(name for name in source if name not in used)
    return found


def _naming(source: Mapping[str, np.ndarray]) -> Callable[[str], str]:
    """name of a variable -> name of its counterpart in `source`, which may not have it."""
    finest: dict[str, int] = {}
    for level in filter(None, map(_LEVEL.match, source)):
        finest[level[1]] = min(int(level[2]), finest.get(level[1], int(level[2])))
    if finest.get("context") != finest.get("estimator"):
        finest.pop("context", None)  # it refines what is not passed on: the features of another

    def source_name(name: str) -> str:
        level = _LEVEL.match(name)
        if level is None or int(level[2]) >= finest.get(level[1], 0):
            return name
        return f"{level[1]}{finest[level[1]]}/{level[3]}"

    return source_name


def _inputs_of(weights: Mapping[str, np.ndarray]) -> dict[str, Parts]:
    """What each kernel reads that has inputs of several kinds, of all estimating levels."""
    shapes = {name: value.shape for name, value in weights.items()}
    levels = {int(match[2]) for match in map(_LEVEL.match, shapes) if match}
    found: dict[str, Parts] = {}
    for level in levels:
        kernels = _convolutions(shapes, f"estimator{level}")
        head = f"estimator{level}/flow/kernel"
        if not kernels or head not in shapes:
            continue
        channels = shapes[kernels[0]][2]
        features = shapes.get(f"pyramid/conv{level}b/bias", (0,))[0]
        cost = channels - features - 2 - 2
        reads = {"cost": cost, "features": features, "up_flow": 2, "up_features": 2}
        if level == max(levels) or cost < 1:
            reads = {"cost": channels}
        dense = shapes[[*kernels, head][1]][2] != shapes[kernels[0]][3]
        for kernel in kernels:
            found[kernel] = reads
            reads = {kernel.split("/")[1]: shapes[kernel][3], **(reads if dense else {})}
        found |= dict.fromkeys(
            (head, f"context{level}/conv1/kernel", f"up_features{level}/kernel"), reads
        )
    return found


def _convolutions(names: Iterable[str], layer: str) -> list[str]:
    """The kernels of a layer's convolutions, in order."""
    matches = (re.fullmatch(rf"{layer}/conv(\d+)/kernel", name) for name in names)
    return [match[0] for match in sorted(filter(None, matches), key=lambda match: int(match[1]))]


def _channels(parts: Parts, part: str) -> slice:
    names = list(parts)
    start = sum(parts[name] for name in names[: names.index(part)])
    return slice(start, start + parts[part])


def _unit_factor(name: str, origin: str, target: Iterable[str], unit_ratio: float) -> float:
    """By what a layer of another level is multiplied, so that its flow has this level's unit."""
    mine, theirs = _LEVEL.match(name), _LEVEL.match(origin)
    if mine is None or theirs is None:
        return 1.0
    ratio = unit_ratio ** (int(theirs[2]) - int(mine[2]))
    heads = {f"estimator{mine[2]}/flow"}
    if convolutions := _convolutions(target, f"context{mine[2]}"):
        heads.add(convolutions[-1].removesuffix("/kernel"))
    if name.rpartition("/")[0] in heads:
        return ratio
    return 1 / ratio if name.startswith("up_flow") and name.endswith("kernel") else 1.0


def _by_layer(names: Iterable[str]) -> str:
    counts = Counter(name.partition("/")[0] for name in names)
    return ", ".join(f"{layer} ({count})" for layer, count in counts.items())
