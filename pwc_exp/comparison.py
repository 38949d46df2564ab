"""How runs and evaluations differ from the first of them, and how surely."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pwc_exp import storage
from pwc_exp.config.commands import CompareConfig, Unit
from pwc_exp.errors import DataError
from pwc_exp.records import EVALUATION, Recorded, read
from pwc_exp.report.comparison import CURVES, Comparison, Scene, render
from pwc_exp.scoring import METRICS
from pwc_exp.scoring.metrics import means
from pwc_exp.scoring.significance import Contrast, contrast, holm
from pwc_exp.scoring.summary import Drawing, Scored

_PRINTED = 10  # sequences
_OTHER_AEPE = re.compile("val/[^/]+/aepe")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d_")


def compare(config: CompareConfig) -> None:
    """Prints the differences, and writes them as a page."""
    runs = [read(Path(folder)) for folder in config.runs]
    names = _names([run.folder for run in runs])
    drawing = Drawing(
        config.bootstrap.unit == Unit.scenes, config.bootstrap.draws, config.bootstrap.seed
    )
    evaluated = {name: run for name, run in zip(names, runs, strict=True) if run.rows}
    shared = _shared(evaluated)
    contrasts = _contrasts(evaluated, shared, drawing)
    comparison = Comparison(
        names=names,
        values=_different(names, runs),
        curves={
            key: {n: r.curves[key] for n, r in zip(names, runs, strict=True) if key in r.curves}
            for key in _curve_keys(runs)
        },
        errors_by_speed={
            name: run.errors_by_speed
            for name, run in evaluated.items()
            if len(run.rows) == len(shared)
        },
        contrasts=contrasts,
        adjusted=_adjusted(contrasts),
        sequences=_sequences(evaluated, shared) if contrasts else [],
        shared=len(shared),
        left_out={name: len(run.rows) - len(shared) for name, run in evaluated.items()},
        drawing=drawing,
    )
    print("\n".join(_text(comparison)))
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    out = Path(config.out or f"outputs/compare/{stamp}/compare.html")
    storage.make_folder(out.parent)
    storage.write_file(out, render(comparison).encode())
    print(f"written: {out}")


def _curve_keys(runs: Sequence[Recorded]) -> list[str]:
    """The curves that are compared: also the AEPE on each data set that a run was validated on."""
    others = {key for run in runs for key in run.curves if _OTHER_AEPE.fullmatch(key)}
    return [*CURVES[:1], *sorted(others), *CURVES[1:]]


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell the folders apart; one given twice is numbered."""
    parts = [folder.absolute().parts for folder in folders]
    stamped = any(_STAMP.match(path[-1]) for path in parts)  # a time alone says little
    for length in range(2 if stamped else 1, max(map(len, parts)) + 1):
        names = ["/".join(path[-length:]) for path in parts]
        if len(set(names)) == len(set(parts)):
            break
    return [
        f"{name} ({number})" if names.count(name) > 1 else name
        for number, name in enumerate(names, start=1)
    ]


def _different(names: Sequence[str], runs: Sequence[Recorded]) -> dict[str, dict[str, str]]:
    """Values by name that are not the same in all: {knob: {run: value}}.

    What evaluations say of themselves is compared among evaluations.
    """
    knobs = sorted({knob for run in runs for knob in run.values})
    found = {}
    for knob in knobs:
        of_evaluation = knob.startswith(EVALUATION)
        values = {
            name: run.values.get(knob, "")
            for name, run in zip(names, runs, strict=True)
            if any(other.startswith(EVALUATION) == of_evaluation for other in run.values)
        }
        if len(set(values.values())) > 1:
            found[knob] = values
    return found


def _shared(evaluated: Mapping[str, Recorded]) -> list[str]:
    """Ids of the samples that all evaluations have, in the order of the first.

    Raises:
        DataError: there are several evaluations and no sample that all have.
    """
    runs = list(evaluated.values())
    if not runs:
        return []
    shared = [key for key in runs[0].rows if all(key in run.rows for run in runs[1:])]
    if not shared:
        raise DataError(f"{', '.join(evaluated)} have no sample in common")
    return shared


def _contrasts(
    evaluated: Mapping[str, Recorded], shared: Sequence[str], drawing: Drawing
) -> dict[str, Contrast]:
    """Every evaluation but the first, against the first."""
    if len(evaluated) < 2:
        return {}
    rows = {name: [run.rows[key] for key in shared] for name, run in evaluated.items()}
    reference, *others = rows
    groups = [drawing.group(row) for row in rows[reference]]
    sums = {name: [row.sums for row in own] for name, own in rows.items()}
    return {
        name: contrast(sums[reference], sums[name], groups, draws=drawing.draws, seed=drawing.seed)
        for name in others
    }


def _adjusted(contrasts: Mapping[str, Contrast]) -> dict[str, dict[str, float]]:
    """{metric: {run: p}}, adjusted for the number of runs."""
    found = {}
    for metric in METRICS:
        names = [name for name, c in contrasts.items() if metric.name in c.differences]
        values = [contrasts[name].differences[metric.name].p for name in names]
        found[metric.name] = dict(zip(names, holm(values), strict=True))
    return found


def _sequences(evaluated: Mapping[str, Recorded], shared: Sequence[str]) -> list[Scene]:
    """AEPE of each scene by run, the largest change first."""
    by_scene: dict[tuple[str, str], list[str]] = {}
    first = next(iter(evaluated.values()))
    for key in shared:
        by_scene.setdefault((first.rows[key].dataset, first.rows[key].scene), []).append(key)
    found = []
    for (dataset, scene), keys in by_scene.items():
        aepe = {name: _aepe([run.rows[k] for k in keys]) for name, run in evaluated.items()}
        found.append(Scene(f"{dataset}/{scene}", len(keys), aepe))
    return sorted(found, key=lambda sequence: -sequence.largest_change)


def _aepe(rows: Sequence[Scored]) -> float:
    return means([row.sums for row in rows])["aepe"]


def _text(comparison: Comparison) -> Iterator[str]:
    labels = {name: f"[{n}]" for n, name in enumerate(comparison.names, start=1)}

    def line(title: str, values: Mapping[str, str]) -> str:
        return f"  {title:<32}" + "   ".join(f"{labels[n]} {v or '-'}" for n, v in values.items())

    yield from (f"{label} {name}" for name, label in labels.items())
    yield "different values" if comparison.values else "no different values"
    yield from (line(knob, values) for knob, values in comparison.values.items())
    for key, curves in comparison.curves.items():
        if curves:
            yield line(f"last {key}", {n: f"{curve[-1][1]:.4g}" for n, curve in curves.items()})
    for name, found in comparison.contrasts.items():
        yield from _contrast_lines(name, found, comparison)
    if comparison.sequences:
        yield "AEPE of the sequences that change most, px"
        for scene in comparison.sequences[:_PRINTED]:
            yield line(scene.name, {name: f"{value:.4f}" for name, value in scene.aepe.items()})
    elif not comparison.contrasts:
        yield "no two evaluations: `python -m pwc_exp.evaluate run=…` makes one of each run"


def _contrast_lines(name: str, found: Contrast, comparison: Comparison) -> Iterator[str]:
    yield (
        f"{name} minus {comparison.reference}, {found.samples} samples: better in {found.wins}, "
        f"worse in {found.losses}, Wilcoxon p {found.rank_p:.2g}"
    )
    yield f"  {'':<16}{'reference':>12}{'this':>12}{'difference':>12}   95 % interval           p"
    for metric in METRICS:
        if metric.name in found.differences:
            change = found.differences[metric.name]
            span = f"{change.interval.lower:.4f} to {change.interval.upper:.4f}"
            p = comparison.adjusted[metric.name][name]
            yield (
                f"  {metric.name:<16}{found.reference[metric.name]:>12.4f}"
                f"{found.other[metric.name]:>12.4f}{change.value:>+12.4f}   {span:<22}{p:>8.4f}"
            )
