"""The command `compare`: how runs and evaluations differ from the first, and how significantly."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pwc_exp import storage
from pwc_exp.config.commands import BootstrapConfig, CompareConfig
from pwc_exp.errors import DataError
from pwc_exp.evaluation.bootstrap import Comparison, compare_samples, holm
from pwc_exp.evaluation.metrics import METRICS, SPEED_LABELS, means
from pwc_exp.evaluation.records import EVALUATION, Curve, RunRecord, groups_of, read
from pwc_exp.report.figures import colour, line_chart
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


@dataclass(frozen=True, kw_only=True)
class Findings:
    """How runs differ; by their names, in the order given."""

    runs: dict[str, RunRecord]
    evaluated: dict[str, RunRecord]  # the evaluations among them; the first is the reference
    settings: dict[str, dict[str, str]]  # {setting: {run: value}}, of settings that differ
    curves: dict[str, dict[str, Curve]]  # {key: {run: …}}, of each key that any run logged
    comparisons: dict[str, Comparison]  # {evaluation: compared with the first}
    adjusted: dict[str, dict[str, float]]  # {metric: {run: p}}, for the number of runs
    scenes: list[Scene]  # the largest change first
    shared: int  # samples that all evaluations have


def compare(config: CompareConfig) -> None:
    """Prints the differences, and writes them as a page."""
    findings = find_differences([read(Path(folder)) for folder in config.runs], config.bootstrap)
    print("\n".join(_text(findings)))
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    out = Path(config.out or f"outputs/compare/{stamp}/compare.html")
    storage.make_folder(out.parent)
    storage.write_file(out, _page(findings, config.bootstrap).encode())
    print(f"written: {out}")


def find_differences(runs: Sequence[RunRecord], bootstrap: BootstrapConfig) -> Findings:
    """Compares every run with the first.

    Raises:
        DataError: there are several evaluations, and no sample that all have.
    """
    named = dict(zip(_names([run.folder for run in runs]), runs, strict=True))
    evaluated = {name: run for name, run in named.items() if run.rows}
    rows = [run.rows for run in evaluated.values()]
    shared = [key for key in (rows[0] if rows else ()) if all(key in own for own in rows)]
    if rows and not shared:
        raise DataError(f"{', '.join(evaluated)} have no sample in common")
    comparisons: dict[str, Comparison] = {}
    if len(evaluated) > 1:
        groups = groups_of([rows[0][key] for key in shared], bootstrap)
        reference, *others = ([own[key].sums for key in shared] for own in rows)
        for name, sums in zip([*evaluated][1:], others, strict=True):
            comparisons[name] = compare_samples(
                reference, sums, groups, draws=bootstrap.draws, seed=bootstrap.seed
            )
    adjusted = {}
    for metric in METRICS:
        p = {
            name: found.differences[metric.name].p
            for name, found in comparisons.items()
            if metric.name in found.differences
        }
        adjusted[metric.name] = dict(zip(p, holm(list(p.values())), strict=True))
    keys = {key for run in named.values() for key in run.curves}
    others_aepe = sorted(filter(_OTHER_AEPE.fullmatch, keys))
    return Findings(
        runs=named,
        evaluated=evaluated,
        settings=_different_settings(named),
        curves={
            key: {name: run.curves[key] for name, run in named.items() if key in run.curves}
            for key in (*CURVES[:1], *others_aepe, *CURVES[1:])
            if key in keys
        },
        comparisons=comparisons,
        adjusted=adjusted,
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


def _scenes(evaluated: Mapping[str, RunRecord], shared: Sequence[str]) -> list[Scene]:
    first = next(iter(evaluated.values())).rows
    by_scene: dict[str, list[str]] = {}
    for key in shared:
        by_scene.setdefault(f"{first[key].dataset}/{first[key].scene}", []).append(key)
    found = []
    for name, keys in by_scene.items():
        rows = {label: [run.rows[key].sums for key in keys] for label, run in evaluated.items()}
        aepe = {label: means(sums)["aepe"] for label, sums in rows.items()}
        found.append(Scene(name, len(keys), aepe))

    def change(scene: Scene) -> float:
        reference, *others = scene.aepe.values()
        return float(np.nan_to_num(max(abs(other - reference) for other in others)))

    return sorted(found, key=change, reverse=True)


def _text(findings: Findings) -> Iterator[str]:
    labels = {name: f"[{n}]" for n, name in enumerate(findings.runs, start=1)}

    def line(title: str, values: Mapping[str, str]) -> str:
        return f"  {title:<32}" + "   ".join(f"{labels[n]} {v or '-'}" for n, v in values.items())

    yield from (f"{label} {name}" for name, label in labels.items())
    yield "different settings" if findings.settings else "no different settings"
    yield from (line(setting, values) for setting, values in findings.settings.items())
    for key, curves in findings.curves.items():
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
    for metric, change in found.differences.items():
        span = f"{change.interval.lower:.4f} to {change.interval.upper:.4f}"
        yield (
            f"  {metric:<16}{found.reference[metric]:>12.4f}{found.other[metric]:>12.4f}"
            f"{change.value:>+12.4f}   {span:<22}{findings.adjusted[metric][name]:>8.4f}"
        )


def _page(findings: Findings, bootstrap: BootstrapConfig) -> str:
    """The whole page, as HTML."""
    left_out = {name: len(run.rows) - findings.shared for name, run in findings.evaluated.items()}
    by_speed = {n: run.error_by_speed for n, run in findings.evaluated.items() if not left_out[n]}

    def lines(of: Mapping[str, Curve]) -> list[Curve]:
        return [of.get(name, []) for name in findings.runs]

    return render(
        "comparison.html.j2",
        title=" / ".join(findings.runs),
        names=[(colour(place), name) for place, name in enumerate(findings.runs)],
        reference=next(iter(findings.evaluated), ""),
        metrics=METRICS,
        significant=_SIGNIFICANT,
        bootstrap=bootstrap,
        comparisons=findings.comparisons,
        adjusted=findings.adjusted,
        shared=findings.shared,
        left_out={name: count for name, count in left_out.items() if count},
        settings=findings.settings,
        curves=[
            (key, line_chart(lines(of), title=key, x="step", logarithmic=key in _LOGARITHMIC))
            for key, of in findings.curves.items()
        ],
        by_speed=line_chart(
            lines(by_speed),
            title="Error against motion",
            x="true motion, px",
            y="AEPE, px",
            ticks=list(enumerate(SPEED_LABELS)),
            logarithmic=True,
        )
        if len(by_speed) > 1
        else "",
        scenes=findings.scenes[:_MOST_SCENES],
        all_scenes=len(findings.scenes),
    )
