import math
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from pwc_exp.errors import ConfigError
from pwc_exp.tuning.space import Choices, Interval, Space, Steps, parse


def part(text: str) -> Any:
    return parse({"key": text}).parts["key"]


def read_by_hydra(text: str) -> object:
    return OverridesParser.create().parse_override(f"key={text}").value()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval(0, 0.1)", Interval(0.0, 0.1)),
        ("tag(log, interval(1e-4, 1e-2))", Interval(1e-4, 1e-2, log=True)),
        ("int(interval(1, 8))", Interval(1, 8, integer=True)),
        ("int(tag(log, interval(1, 8)))", Interval(1, 8, log=True, integer=True)),
        ("range(2, 17, step=2)", Steps(2, 16, 2)),
        ("range(3)", Steps(0, 2, 1)),
        ("range(0.1, 0.5, step=0.1)", Steps(0.1, 0.4, 0.1)),
        ("range(0, 1, step=0.3)", Steps(0, 0.9, 0.3)),
        ("tiny,sm", Choices(("tiny", "sm"))),
        ("choice(tiny, sm)", Choices(("tiny", "sm"))),
        ("'a, b',\"it's\",[1,2]", Choices(("'a, b'", '"it\'s"', "[1,2]"))),
        ("null,0.99", Choices(("null", "0.99"))),
    ],
)
def test_the_grammar_of_hydras_sweeps_describes_a_space(text: str, expected: object) -> None:
    assert part(text) == expected


def test_a_range_has_the_values_of_hydras_own_sweeps() -> None:
    for text in ("range(2, 17, step=2)", "range(5)", "range(1, 2)", "range(3, 12, 3)"):
        override = OverridesParser.create().parse_override(f"key={text}")
        assert list(part(text).texts()) == list(override.sweep_string_iterator())


def test_steps_of_decimals_are_the_decimals() -> None:
    assert list(part("range(0.1, 0.8, step=0.1)").texts()) == [f"0.{n}" for n in range(1, 8)]
    assert part("range(0.1, 0.8, step=0.1)").text(0.1 + 2 * 0.1) == "0.3"


@pytest.mark.parametrize("number", [0.1 + 0.2, 1e-05, 1.5e300, 2.0, math.nextafter(1e16, 0)])
def test_a_number_comes_back_with_all_its_bits(number: float) -> None:
    assert read_by_hydra(Interval(0.0, 1e301).text(number)) == number


def test_whole_numbers_stay_whole() -> None:
    assert Interval(1, 8, integer=True).text(3.0) == "3"
    assert Steps(2, 16, 2).text(6.0) == "6"


def test_a_choice_keeps_its_type_and_its_quotes() -> None:
    values = "'1', 1, 1e-5, true, 'true', 'a,b', x y, [1,'2'], 'it\\'s', ''"
    expected = ["1", 1, 1e-5, True, "true", "a,b", "x y", [1, "2"], "it's", ""]
    for text in (f"choice({values})", values):
        assert [read_by_hydra(choice) for choice in part(text).texts()] == expected


def test_other_overrides_pass_through_as_they_were_written() -> None:
    arguments = ["experiment=quickstart", "model=tiny,sm", "data.crop=[64, 64]", "~tracking"]
    space = parse({"batch_size": 8, "init_from": None, "xla": False}, arguments)
    assert space.parts == {"model": Choices(("tiny", "sm"))}
    fixed = ["batch_size=8", "init_from=null", "xla=false", "experiment=quickstart"]
    assert space.overrides({"model": "sm"}) == [
        *fixed,
        "data.crop=[64, 64]",
        "~tracking",
        "model=sm",
    ]


def test_an_argument_takes_the_place_of_what_the_file_says_of_its_key() -> None:
    params = {"a": "interval(0, 1)", "b": "interval(0, 1)"}
    space = parse(params, ["a=0.5", "b=1,2"])
    assert space == Space({"b": Choices(("1", "2"))}, ("a=0.5",))


def test_a_space_without_intervals_of_reals_can_be_counted() -> None:
    space = parse({"a": "range(3)", "b": "x,y", "c": "int(interval(1, 2))"})
    assert len(list(space.all())) == space.count == 12
    assert {"a": "2", "b": "x", "c": "1"} in list(space.all())
    assert parse({"a": "interval(0, 1)", "b": "x,y"}).count == math.inf


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("interval(1, 1)", "low to high"),
        ("interval(2, 1)", "low to high"),
        ("interval(0, inf)", "low to high"),
        ("tag(log, interval(0, 1))", "above 0"),
        ("range(1, 4, step=0)", "positive step"),
        ("range(4, 1, step=-1)", "positive step"),
        ("range(4, 1)", "positive step"),
        ("a,b,a", "must differ"),
        ("choice()", "empty choice is not legal"),
        ("glob(*)", "no pattern"),
        ("shuffle(a, b)", "not shuffled"),
        ("shuffle(range(3))", "not shuffled"),
        ("tag(fast, interval(0, 1))", "'fast'"),
        ("tag(log, range(1, 4))", "'log'"),
        ("interval(0", "grammar"),
        ("str(interval(0, 1))", "cannot be cast to str"),
        ([1, 2], "must be one value or text"),
        ({"low": 1}, "must be one value or text"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_line_that_names_the_key(
    value: object, reason: str
) -> None:
    with pytest.raises(ConfigError, match=r"^augment\.hue") as refusal:
        parse({"augment.hue": value})
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_hydras_own_keys_are_not_searched() -> None:
    with pytest.raises(ConfigError, match="hydra.job.name"):
        parse({}, ["hydra.job.name=a,b"])
