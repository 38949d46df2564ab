"""Pictures of a search, as PNG: how it went on, what mattered, which trials were stopped.

Drawn without pyplot, which keeps figures and styles of the whole process; no display is needed.
"""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from pwc_exp.tuning.space import Choices, Interval, Part
from pwc_exp.tuning.study import Search

_LEAST = 4  # complete trials that say anything of importance
_COLUMNS = 3  # of the pictures by key
_DPI = 110
_BLUE, _RED, _GREY = "#1f6fb4", "#c8352b", "#8a8a8a"
_WIDE = 20  # greatest over smallest value above which an axis is logarithmic


class Pictures(NamedTuple):
    """PNGs by what they show, and why others are not there."""

    made: dict[str, bytes]
    absent: dict[str, str]


def draw(search: Search) -> Pictures:
    """Draws all that the trials so far allow.

    That is `history`, `importance` and `values` of an objective, with several `history val_aepe`
    and so on; `curves` where steps were reported; `front` of two objectives.
    """
    trials = search.trials()
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    pictures = Pictures({}, {})
    if not complete:
        pictures.absent["history"] = "no trial is complete"
        return pictures
    for place, key in enumerate(search.objectives):
        suffix = f" {key.replace('/', '_')}" if len(search.objectives) > 1 else ""
        pictures.made[f"history{suffix}"] = _png(_history(search, trials, place))
        pictures.made[f"values{suffix}"] = _png(_values(search, complete, place))
        importance = _importance_of(search, complete, place)
        if isinstance(importance, str):
            pictures.absent[f"importance{suffix}"] = importance
        else:
            pictures.made[f"importance{suffix}"] = _png(_importance(key, importance))
    if any(trial.intermediate_values for trial in trials):
        pictures.made["curves"] = _png(_curves(search, trials))
    if len(search.objectives) == 2:
        pictures.made["front"] = _png(_front(search, complete))
    return pictures


def _history(search: Search, trials: Sequence[FrozenTrial], place: int) -> Figure:
    figure, axes = _figure(f"{search.objectives[place]} of each trial, and the best so far")
    ended = {"complete": TrialState.COMPLETE, "stopped early,\nlast value": TrialState.PRUNED}
    values: list[float] = []
    for name, state in ended.items():
        shown = [trial for trial in trials if trial.state == state and trial.values]
        if not shown:
            continue
        mark, colour = ("o", _BLUE) if state == TrialState.COMPLETE else ("x", _GREY)
        heights = [trial.values[place] for trial in shown]
        numbers = [trial.number for trial in shown]
        axes.scatter(numbers, heights, marker=mark, color=colour, label=name, zorder=2)
        values += heights
    failed = [trial.number for trial in trials if trial.state == TrialState.FAIL]
    if failed:
        heights = [min(values)] * len(failed)
        axes.scatter(failed, heights, marker="|", color=_RED, s=120, label="failed", zorder=2)
    numbers, best = _best_so_far(search, trials, place)
    axes.step(numbers, best, where="post", color=_RED, label="best so far", zorder=1)
    _finish(axes, "trial", search.objectives[place], values)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _best_so_far(
    search: Search, trials: Sequence[FrozenTrial], place: int
) -> tuple[list[int], list[float]]:
    better = max if _is_great(search, place) else min
    numbers: list[int] = []
    best: list[float] = []
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            numbers.append(trial.number)
            best.append(better([*best[-1:], trial.values[place]]))
    return [*numbers, trials[-1].number], [*best, best[-1]]


def _importance_of(
    search: Search, complete: Sequence[FrozenTrial], place: int
) -> dict[str, float] | str:
    """The share of each key in the objective's variance (fANOVA); or why that is not known.

    https://proceedings.mlr.press/v32/hutter14.html
    """
    values = {trial.values[place] for trial in complete}
    if len(complete) < _LEAST or len(values) < 2:
        return f"needs {_LEAST} complete trials and 2 values; has {len(complete)} and {len(values)}"
    try:
        return get_param_importances(
            search.study,
            evaluator=FanovaImportanceEvaluator(seed=0),
            target=lambda trial: float(trial.values[place]),
        )
    except (RuntimeError, ValueError) as error:  # no tree split anything, for example
        return str(error).splitlines()[0]


def _importance(objective: str, importance: dict[str, float]) -> Figure:
    height = 1.6 + 0.4 * len(importance)
    figure, axes = _figure(f"Share in the variance of {objective} (fANOVA)", height=height)
    keys = list(importance)[::-1]
    bars = axes.barh(keys, [importance[key] for key in keys], color=_BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xlim(0, 1.08)
    axes.grid(axis="y", visible=False)
    return figure


def _values(search: Search, complete: Sequence[FrozenTrial], place: int) -> Figure:
    parts = search.space.parts
    rows = -(-len(parts) // _COLUMNS)
    columns = min(_COLUMNS, len(parts))
    figure = Figure(figsize=(1 + 3.6 * columns, 0.6 + 3.0 * rows), dpi=_DPI, layout="constrained")
    figure.suptitle(f"{search.objectives[place]} by value; later trials are darker", fontsize=11)
    heights = [trial.values[place] for trial in complete]
    for number, (key, part) in enumerate(parts.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        axes.scatter(
            _places(part, [trial.params[key] for trial in complete]),
            heights,
            c=[trial.number for trial in complete],
            cmap="Blues",
            vmin=-len(complete),  # so that the first is not white
            edgecolors=_GREY,
            linewidths=0.5,
            clip_on=False,
            zorder=2,
        )
        _set_scale(axes, part)
        _finish(axes, key, search.objectives[place], heights, legend=False)
    return figure


def _places(part: Part, values: Sequence[Any]) -> list[float]:
    if isinstance(part, Choices):
        return [part.values.index(value) for value in values]
    return list(values)


def _set_scale(axes: Axes, part: Part) -> None:
    """The axis of a key, over all of its space."""
    if isinstance(part, Choices):
        axes.set_xticks(range(len(part.values)), part.values)
        axes.set_xlim(-0.5, len(part.values) - 0.5)
        return
    if isinstance(part, Interval) and part.log:
        axes.set_xscale("log")
        decades = part.high >= 10 * part.low  # else no power of ten may lie in it
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)) if decades else MaxNLocator(4))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    margin = 0 if part.high > part.low else 0.5  # a range of one value
    axes.set_xlim(part.low - margin, part.high + margin)


def _curves(search: Search, trials: Sequence[FrozenTrial]) -> Figure:
    figure, axes = _figure(f"{search.objectives[0]} while the trials ran")
    best = search.best()
    values: list[float] = []
    named = set()
    for trial in trials:
        if not trial.intermediate_values:
            continue
        steps = sorted(trial.intermediate_values)
        heights = [trial.intermediate_values[step] for step in steps]
        style, name = _style(trial, is_best=best is not None and trial.number == best.number)
        # Matplotlib leaves a name with an underscore out of the legend.
        axes.plot(steps, heights, label=f"_{name}" if name in named else name, **style)
        if trial.state == TrialState.PRUNED:
            axes.scatter(steps[-1:], heights[-1:], marker="x", color=_GREY, zorder=3)
        values += heights
        named.add(name)
    _finish(axes, "step", search.objectives[0], values)
    return figure


def _style(trial: FrozenTrial, *, is_best: bool) -> tuple[dict[str, Any], str]:
    if is_best:
        return {
            "color": _RED,
            "linewidth": 2.2,
            "marker": ".",
            "zorder": 4,
        }, f"best: {trial.number}"
    match trial.state:
        case TrialState.COMPLETE:
            return {"color": _BLUE, "alpha": 0.6, "marker": "."}, "complete"
        case TrialState.PRUNED:
            return {"color": _GREY, "alpha": 0.8, "linestyle": "--"}, "stopped early"
        case TrialState.FAIL:
            return {"color": _GREY, "alpha": 0.6, "linestyle": ":"}, "failed"
    return {"color": "black", "alpha": 0.6, "linewidth": 0.8}, "running"


def _front(search: Search, complete: Sequence[FrozenTrial]) -> Figure:
    first, second = search.objectives
    figure, axes = _figure(f"{first} and {second}; numbered: no trial is better in both")
    axes.scatter(
        [trial.values[0] for trial in complete],
        [trial.values[1] for trial in complete],
        color=_GREY,
        alpha=0.6,
        label="complete",
    )
    front = [(*result.objectives.values(), result.number) for result in search.front()]
    across, up = [point[0] for point in front], [point[1] for point in front]
    axes.plot(across, up, color=_RED, marker="o", linewidth=1, label="front")
    for x, y, number in front:
        axes.annotate(str(number), (x, y), xytext=(5, 5), textcoords="offset points", fontsize=9)
    _finish(axes, first, second, [trial.values[1] for trial in complete])
    if _is_wide([trial.values[0] for trial in complete]):
        axes.set_xscale("log")
    return figure


def _is_great(search: Search, place: int) -> bool:
    return search.study.directions[place] == StudyDirection.MAXIMIZE


def _figure(title: str, *, height: float = 4.2) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.6, height), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _finish(axes: Axes, x: str, y: str, values: Sequence[float], *, legend: bool = True) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    if _is_wide(values):
        axes.set_yscale("log")
    if legend:
        axes.legend(fontsize=9, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _is_wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) > _WIDE * min(values)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
