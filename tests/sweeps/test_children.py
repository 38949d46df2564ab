"""What children are called, in MLflow and on the disk."""

import re

from pwc_exp.sweeps.children import make_child


def test_a_child_has_the_exact_values_and_a_short_name() -> None:
    values = {"schedule.peak": "0.0020554062603827007", "model": "tiny"}
    child = make_child(3, values, ["steps=4"])
    assert child.overrides == ["steps=4", "schedule.peak=0.0020554062603827007", "model=tiny"]
    assert child.name == "schedule.peak=0.002055 model=tiny"
    assert child.folder == "3_schedule.peak-0.002055_model-tiny"


def test_a_folder_needs_no_quotes_whatever_the_values_are() -> None:
    values = {"data.crop": "[128,192]", "data.root": "'/a b/c=d'", "+loss.q": "0.4" + "0" * 300}
    child = make_child(12, values, [])
    assert re.fullmatch(r"12_[A-Za-z0-9._-]+", child.folder)
    assert len(child.folder) <= 60


def test_a_child_without_values_of_its_own_is_called_by_its_number() -> None:
    assert make_child(0, {}, ["steps=4"])[1:3] == ("0", "0")
