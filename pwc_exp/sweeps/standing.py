"""How children stand: their rows in tables, and what several seeds have in common."""

import math
import statistics
from collections.abc import Mapping, Sequence

from pwc_exp.report.sweep_summary import ChildRow, SeedGroup
from pwc_exp.sweeps.children import Child, rounded
from pwc_exp.sweeps.objective import Objective
from pwc_exp.sweeps.outcome import FINISHED, Outcome

SEED = "seed"


def row_of(child: Child, outcome: Outcome, objective: Objective) -> ChildRow:
    """A child as tables and page show it."""
    return ChildRow(
        number=child.number,
        name=child.name,
        values={key: rounded(value) for key, value in child.values.items()},
        status=outcome.status,
        aepe=objective.value(outcome),
        lower=outcome.values.get(f"{objective.key}_lower", math.nan),
        upper=outcome.values.get(f"{objective.key}_upper", math.nan),
        seconds=outcome.seconds,
        steps=outcome.steps,
        reason=outcome.reason,
        folder=child.folder,
        curve=outcome.curve,
    )


def seed_groups(
    children: Sequence[Child], outcomes: Mapping[int, Outcome], objective: Objective
) -> list[SeedGroup]:
    """Children alike but for their seed, with their mean; none where no two are."""
    groups: dict[str, list[float]] = {}
    for child in children:
        outcome = outcomes[child.number]
        if SEED in child.values and outcome.status == FINISHED:
            others = " ".join(f"{k}={v}" for k, v in child.values.items() if k != SEED)
            groups.setdefault(others, []).append(objective.value(outcome))
    if max(map(len, groups.values()), default=0) < 2:
        return []
    best = min if objective.lower_is_better else max
    return [
        SeedGroup(
            name=name or "all",
            count=len(values),
            mean=statistics.fmean(values),
            deviation=statistics.stdev(values) if len(values) > 1 else math.nan,
            best=best(values),
        )
        for name, values in groups.items()
    ]
