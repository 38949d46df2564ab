"""The command `compare`: how runs and evaluations differ from the first, and how significantly."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pwc_exp import storage
from pwc_exp.config.commands import CompareConfig, Unit
from pwc_exp.errors import DataError
from pwc_exp.evaluation.bootstrap import BootstrapSettings, Comparison, compare_samples, holm
from pwc_exp.evaluation.metrics import METRICS, SPEED_LABELS, means
from pwc_exp.evaluation.records import EVALUATION, RunRecord, read
from pwc_exp.evaluation.summary import groups_of
from pwc_exp.report.figures import Line, colour, line_chart
from pwc_exp.report.pages import render

CURVES = ("val/aepe", "val/fl_all", "train/loss", "train/aepe", "train/grad_norm", "train/lr")
_LOGARITHMIC = ("train/loss", "train/grad_norm", "train/lr")
_SIGNIFICANT = 0.05  # p below which a difference is marked
_PRINTED, _MOST_SCENES = 10, 40  # sequences on the terminal and on the page
_OTHER_AEPE = re.compile("val/[^/]+/aepe")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d_")


class Scene(NamedTuple):
    """A scene, and each run's AEPE on it."""

    name: str
    samples: int
    aepe: dict[str, float]  # px; the reference first

    @property
    def largest_change(self) -> float:
        """From the reference, in pixels; 0 where nothing is known."""
        reference, *others = self.aepe.values()
        changes = [abs(other - reference) for other in others]
        return float(np.nan_to_num(max(changes, default=0.0)))


@dataclass(frozen=True, kw_only=True)
class Findings:
    """How runs differ; by their names, in the order given."""

    runs: dict[str, RunRecord]
    settings: dict[str, dict[str, str]]  # {setting: {run: value}}, of settings that differ
    comparisons: dict[str, Comparison]  # {evaluation: compared with the first}
    adjusted: dict[str, dict[str, float]]  # {metric: {run: p}}, for the number of runs
    scenes: list[Scene]
    shared: int  # samples that all evaluations have

    @property
    def evaluated(self) -> dict[str, RunRecord]:
        """The evaluations among the runs; the first is the reference."""
        return {name: run for name, run in self.runs.items() if run.rows}

    def curves(self) -> Iterator[tuple[str, dict[str, list[tuple[float, float]]]]]:
        """Of each key that any run logged: {run: [(step, value)]}."""
        others = {k for run in self.runs.values() for k in run.curves if _OTHER_AEPE.fullmatch(k)}
        for key in [*CURVES[:1], *sorted(others), *CURVES[1:]]:
            found = {n: run.curves[key] for n, run in self.runs.items() if key in run.curves}
            if found:
                yield key, found


def compare(config: CompareConfig) -> None:
    """Prints the differences, and writes them as a page."""
    drawn = config.bootstrap
    bootstrap = BootstrapSettings(drawn.unit == Unit.scenes, drawn.draws, drawn.seed)
    findings = find_differences([read(Path(folder)) for folder in config.runs], bootstrap)
    print("\n".join(_text(findings)))
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    out = Path(config.out or f"outputs/compare/{stamp}/compare.html")
    storage.make_folder(out.parent)
    storage.write_file(out, _page(findings, bootstrap).encode())
    print(f"written: {out}")


def find_differences(runs: Sequence[RunRecord], bootstrap: BootstrapSettings) -> Findings:
    """Compares every run with the first.

    Raises:
        DataError: there are several evaluations, and no sample that all have.
    """
    named = dict(zip(_names([run.folder for run in runs]), runs, strict=True))
    evaluated = {name: run for name, run in named.items() if run.rows}
    shared = _shared(evaluated)
    comparisons: dict[str, Comparison] = {}
    if len(evaluated) > 1:
        rows = {name: [run.rows[key] for key in shared] for name, run in evaluated.items()}
        reference, *others = rows
        sums = {name: [row.sums for row in own] for name, own in rows.items()}
        comparisons = {
            name: compare_samples(
                sums[reference],
                sums[name],
                groups_of(rows[reference], bootstrap),
                draws=bootstrap.draws,
                seed=bootstrap.seed,
            )
            for name in others
        }
    return Findings(
        runs=named,
        settings=_different_settings(named),
        comparisons=comparisons,
        adjusted=_adjusted(comparisons),
        scenes=_scenes(evaluated, shared) if comparisons else [],
        shared=len(shared),
    )


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


def _different_settings(runs: Mapping[str, RunRecord]) -> dict[str, dict[str, str]]:
    """Settings whose values are not the same in all: {setting: {run: value}}.

    What evaluations record about themselves is compared among evaluations.
    """
    found = {}
    for setting in sorted({setting for run in runs.values() for setting in run.settings}):
        of_evaluation = setting.startswith(EVALUATION)
        values = {
            name: run.settings.get(setting, "")
            for name, run in runs.items()
            if any(other.startswith(EVALUATION) == of_evaluation for other in run.settings)
        }
        if len(set(values.values())) > 1:
            found[setting] = values
    return found


def _shared(evaluated: Mapping[str, RunRecord]) -> list[str]:
    """Ids of the samples that all evaluations have, in the order of the first."""
    runs = list(evaluated.values())
    if not runs:
        return []
    shared = [key for key in runs[0].rows if all(key in run.rows for run in runs[1:])]
    if not shared:
        raise DataError(f"{', '.join(evaluated)} have no sample in common")
    return shared


def _adjusted(comparisons: Mapping[str, Comparison]) -> dict[str, dict[str, float]]:
    found = {}
    for metric in METRICS:
        names = [name for name, c in comparisons.items() if metric.name in c.differences]
        values = [comparisons[name].differences[metric.name].p for name in names]
        found[metric.name] = dict(zip(names, holm(values), strict=True))
    return found


def _scenes(evaluated: Mapping[str, RunRecord], shared: Sequence[str]) -> list[Scene]:
    """AEPE of each scene by run, the largest change first."""
    by_scene: dict[str, list[str]] = {}
    first = next(iter(evaluated.values()))
    for key in shared:
        name = f"{first.rows[key].dataset}/{first.rows[key].scene}"
        by_scene.setdefault(name, []).append(key)
    found = [
        Scene(
            name,
            len(keys),
            {
                label: means([run.rows[key].sums for key in keys])["aepe"]
                for label, run in evaluated.items()
            },
        )
        for name, keys in by_scene.items()
    ]
    return sorted(found, key=lambda scene: -scene.largest_change)


def _text(findings: Findings) -> Iterator[str]:
    labels = {name: f"[{n}]" for n, name in enumerate(findings.runs, start=1)}

    def line(title: str, values: Mapping[str, str]) -> str:
        return f"  {title:<32}" + "   ".join(f"{labels[n]} {v or '-'}" for n, v in values.items())

    yield from (f"{label} {name}" for name, label in labels.items())
    yield "different settings" if findings.settings else "no different settings"
    yield from (line(setting, values) for setting, values in findings.settings.items())
    for key, curves in findings.curves():
        yield line(f"last {key}", {n: f"{curve[-1][1]:.4g}" for n, curve in curves.items()})
    for name in findings.comparisons:
        yield from _comparison_lines(name, findings)
    if findings.scenes:
        yield "AEPE of the sequences that change most, px"
        for scene in findings.scenes[:_PRINTED]:
            yield line(scene.name, {name: f"{value:.4f}" for name, value in scene.aepe.items()})
    elif not findings.comparisons:
        yield "fewer than two evaluations: `python -m pwc_exp.evaluate run=…` makes one of a run"


def _comparison_lines(name: str, findings: Findings) -> Iterator[str]:
    found = findings.comparisons[name]
    reference = next(iter(findings.evaluated))
    yield (
        f"{name} minus {reference}, {found.samples} samples: better in {found.wins}, "
        f"worse in {found.losses}, Wilcoxon p {found.rank_p:.2g}"
    )
    yield f"  {'':<16}{'reference':>12}{'this':>12}{'difference':>12}   95 % interval           p"
    for metric in METRICS:
        if metric.name in found.differences:
            change = found.differences[metric.name]
            span = f"{change.interval.lower:.4f} to {change.interval.upper:.4f}"
            p = findings.adjusted[metric.name][name]
            yield (
                f"  {metric.name:<16}{found.reference[metric.name]:>12.4f}"
                f"{found.other[metric.name]:>12.4f}{change.value:>+12.4f}   {span:<22}{p:>8.4f}"
            )


def _page(findings: Findings, bootstrap: BootstrapSettings) -> str:
    """The whole page, as HTML."""
    evaluated = findings.evaluated
    left_out = {name: len(run.rows) - findings.shared for name, run in evaluated.items()}
    complete = {n: run.error_by_speed for n, run in evaluated.items() if not left_out[n]}
    by_speed = line_chart(
        [Line(name, complete.get(name, [])) for name in findings.runs],
        title="Error against motion",
        x="true motion, px",
        y="AEPE, px",
        ticks=list(enumerate(SPEED_LABELS)),
        logarithmic=True,
    )
    curves = [
        (
            key,
            line_chart(
                [Line(name, lines.get(name, [])) for name in findings.runs],
                title=key,
                x="step",
                logarithmic=key in _LOGARITHMIC,
            ),
        )
        for key, lines in findings.curves()
    ]
    return render(
        "comparison.html.j2",
        title=" / ".join(findings.runs),
        names=[(colour(place), name) for place, name in enumerate(findings.runs)],
        reference=next(iter(evaluated), ""),
        metrics=METRICS,
        significant=_SIGNIFICANT,
        bootstrap=bootstrap,
        comparisons=findings.comparisons,
        adjusted=findings.adjusted,
        shared=findings.shared,
        left_out={name: count for name, count in left_out.items() if count},
        settings=findings.settings,
        curves=curves,
        by_speed=by_speed if len(complete) > 1 else "",
        scenes=findings.scenes[:_MOST_SCENES],
        all_scenes=len(findings.scenes),
    )
