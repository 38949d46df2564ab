"""The groups of a configuration: one line for each knob, with its unit, and checks of its values.

A knob that everyone wants the same has its default here; one that is a choice has none and is
stated in `conf/<group>/`. Sizes are (height, width).
"""

from dataclasses import field
from typing import Any


def list_of(*values: Any) -> Any:
    """A list as the default of a field."""
    return field(default_factory=lambda: list(values))
