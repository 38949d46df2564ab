"""The space of a search, in the grammar of Hydra's sweeps.

    schedule.peak=tag(log, interval(1e-4, 1e-2))    model=tiny,sm    batch_size=range(2, 17, step=2)

An interval has real numbers, `int(interval(1, 8))` integers, both ends included. A range excludes
its stop, as in Hydra's grids (hydra-optuna-sweeper 1.3 includes it). Values come back as text that
Hydra reads as the same value: https://hydra.cc/docs/1.3/advanced/override_grammar/extended
"""

import math
import re
from decimal import Decimal
from typing import Any

from hydra.core.override_parser import types as grammar
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from pwc_exp.config.fields import check
from pwc_exp.errors import ConfigError

Distribution = CategoricalDistribution | FloatDistribution | IntDistribution


def distribution(key: str, override: grammar.Override) -> Distribution:
    """The values among which a search chooses that of `key`.

    Raises:
        ConfigError: they cannot be searched.
    """
    sweep, received = override.value(), override.get_value_string()
    check(not override.is_hydra_override(), key, "cannot be searched, it is Hydra's own", received)
    known = {"log"} if isinstance(sweep, grammar.IntervalSweep) else set()
    check(getattr(sweep, "tags", known) <= known, key, "has an unknown tag", received)
    match sweep:
        case grammar.IntervalSweep(start=float() | int() as low, end=float() | int() as high):
            log = "log" in sweep.tags
            finite = math.isfinite(low) and math.isfinite(high)
            check(finite and low < high, key, "must be an interval from low to high", received)
            check(low > 0 or not log, key, "must be above 0, as a log interval", received)
            if isinstance(low, int):
                return IntDistribution(low, int(high), log=log)
            return FloatDistribution(low, high, log=log)
        case grammar.RangeSweep(start=float() | int() as low, stop=float() | int() as stop):
            step = sweep.step
            holds = all(map(math.isfinite, (low, stop, step))) and low < stop and step > 0
            requirement = "must be a range that goes up by a positive step, not shuffled"
            check(holds and not sweep.shuffle, key, requirement, received)
            steps = math.ceil((_exact(stop) - _exact(low)) / _exact(step)) - 1
            last = _exact(low) + steps * _exact(step)
            if isinstance(low, int) and isinstance(step, int):
                return IntDistribution(low, int(last), step=step)
            return FloatDistribution(low, float(last), step=step)
        case grammar.ChoiceSweep(shuffle=False):
            choices = tuple(map(_choice_text, sweep.list))
            check(len(set(choices)) == len(choices), key, "must have different choices", received)
            return CategoricalDistribution(choices)
    requirement = "must be an interval, a range or choices, not shuffled and no pattern"
    raise ConfigError(f"{key} {requirement}. Received: {received}")


def value_text(each: Distribution, value: Any) -> str:
    """`value` in Hydra's grammar; of steps the decimal: 0.3, not 0.1 + 2 * 0.1."""
    match each:
        case FloatDistribution(low=low, step=float() as step):
            return repr(float(_exact(low) + round((value - low) / step) * _exact(step)))
        case FloatDistribution():
            return repr(float(value))
        case IntDistribution():
            return str(round(value))
    return str(value)  # a choice is text of that grammar already


def first_value(each: Distribution) -> str:
    """A value in Hydra's grammar, to try a key out."""
    return value_text(
        each, each.choices[0] if isinstance(each, CategoricalDistribution) else each.low
    )


def _choice_text(value: grammar.ParsedElementType) -> str:
    """As Hydra writes it; quoted, as choice('1') has lost its quotes, if it is no plain word."""
    if not isinstance(value, str):
        return grammar.Transformer.str(value)
    parse = OverridesParser.create().parse_override
    plain = re.fullmatch(r"[\w./+-]+", value) and parse(f"key={value}").value() == value
    return value if plain else grammar.QuotedString(value, grammar.Quote.single).with_quotes()


def _exact(number: float) -> Decimal:
    """The number that was written: 0.1, not the binary fraction next to it."""
    return Decimal(repr(number))
