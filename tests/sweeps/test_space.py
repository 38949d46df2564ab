"""The search space in Hydra's grammar: what is understood, and that values come back exactly."""

import math

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from pwc_exp.config import composition
from pwc_exp.config.schema import VARIANTS, flatten
from pwc_exp.config.sweeps import OptunaConfig, Pruner
from pwc_exp.config.training import TrainConfig
from pwc_exp.errors import ConfigError
from pwc_exp.sweeps.space import Distribution, distribution, first_value, value_text

PRESET = "experiment=tune-quickstart"


def part(text: str, key: str = "key") -> Distribution:
    return distribution(key, OverridesParser.create().parse_override(f"{key}={text}"))


def read_by_hydra(text: str) -> object:
    return OverridesParser.create().parse_override(f"key={text}").value()


def values_of(text: str) -> list[str]:
    """All values of a range, in Hydra's grammar."""
    each = part(text)
    assert isinstance(each, FloatDistribution | IntDistribution) and each.step
    count = round((each.high - each.low) / each.step) + 1
    return [value_text(each, each.low + n * each.step) for n in range(count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval(0, 0.1)", FloatDistribution(0.0, 0.1)),
        ("tag(log, interval(1e-4, 1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("int(interval(1, 8))", IntDistribution(1, 8)),
        ("int(tag(log, interval(1, 8)))", IntDistribution(1, 8, log=True)),
        ("range(2, 17, step=2)", IntDistribution(2, 16, step=2)),
        ("range(3)", IntDistribution(0, 2)),
        ("range(0.1, 0.5, step=0.1)", FloatDistribution(0.1, 0.4, step=0.1)),
        ("range(0, 1, step=0.3)", FloatDistribution(0, 0.9, step=0.3)),
        ("tiny,sm", CategoricalDistribution(("tiny", "sm"))),
        ("choice(tiny, sm)", CategoricalDistribution(("tiny", "sm"))),
        ("'a, b',\"it's\",[1,2]", CategoricalDistribution(("'a, b'", '"it\'s"', "[1,2]"))),
        ("null,0.99", CategoricalDistribution(("null", "0.99"))),
    ],
)
def test_the_grammar_of_hydras_sweeps_describes_a_space(text: str, expected: object) -> None:
    assert part(text) == expected


def test_a_range_has_the_values_of_hydras_own_sweeps() -> None:
    for text in ("range(2, 17, step=2)", "range(5)", "range(1, 2)", "range(3, 12, 3)"):
        override = OverridesParser.create().parse_override(f"key={text}")
        assert values_of(text) == list(override.sweep_string_iterator())
    assert values_of("range(0.1, 0.8, step=0.1)") == [f"0.{n}" for n in range(1, 8)]


@pytest.mark.parametrize("number", [0.1 + 0.2, 1e-05, 1.5e300, 2.0, math.nextafter(1e16, 0)])
def test_a_number_comes_back_with_all_its_bits(number: float) -> None:
    assert read_by_hydra(value_text(FloatDistribution(0.0, 1e301), number)) == number


def test_a_choice_keeps_its_type_and_its_quotes() -> None:
    values = "'1', 1, 1e-5, true, 'true', 'a,b', x y, [1,'2'], 'it\\'s', ''"
    expected = ["1", 1, 1e-5, True, "true", "a,b", "x y", [1, "2"], "it's", ""]
    for text in (f"choice({values})", values):
        each = part(text)
        assert isinstance(each, CategoricalDistribution)
        assert [read_by_hydra(str(choice)) for choice in each.choices] == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("interval(1, 1)", "low to high"),
        ("interval(2, 1)", "low to high"),
        ("tag(log, interval(0, 1))", "above 0"),
        ("range(1, 4, step=0)", "positive step"),
        ("range(4, 1, step=-1)", "positive step"),
        ("range(4, 1)", "positive step"),
        ("a,b,a", "different"),
        ("glob(*)", "no pattern"),
        ("shuffle(a, b)", "not shuffled"),
        ("shuffle(range(3))", "not shuffled"),
        ("tag(fast, interval(0, 1))", "unknown tag"),
        ("tag(log, range(1, 4))", "unknown tag"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_line_that_names_the_key(
    value: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=r"^augment\.hue") as refusal:
        part(value, "augment.hue")
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ConfigError, match=r"hydra\.job\.name.*Hydra's own"):
        part("a,b", "hydra.job.name")


def test_the_preset_describes_a_search_and_its_trials() -> None:
    composition.register()
    conf = str(composition.data_dir("conf"))
    with initialize_config_dir(config_dir=conf, version_base="1.3"):
        values = compose("train", [PRESET, "hydra.sweeper.trials=3"], return_hydra_config=True)
    config = OmegaConf.to_object(values.hydra.sweeper)
    assert isinstance(config, OptunaConfig)
    assert (config.trials, config.pruner) == (3, Pruner.median)
    space = {key: part(text) for key, text in config.params.items()}
    assert space == {
        "schedule.peak": FloatDistribution(3e-4, 1e-2, log=True),
        "augment.geometry_probability": FloatDistribution(0.0, 1.0),
        "augment.eraser_probability": FloatDistribution(0.0, 1.0),
    }
    space |= {"loss": part("multiscale,robust"), "batch_size": part("range(2, 9, step=2)")}
    proposed = {key: first_value(each) for key, each in space.items()}
    overrides = [PRESET, *(f"{key}={text}" for key, text in proposed.items())]
    run = composition.check(composition.compose_command("train", overrides).values, "train")
    assert isinstance(run, TrainConfig)
    assert run.data.crop == [128, 128]  # as the quickstart's
    names = {schema: name for name, schema in VARIANTS["loss"].items()}
    trained = {**flatten(run), "loss": names[type(run.loss)]}
    assert {key: str(trained[key]) for key in proposed} == proposed
