"""The variables of a live run: listed for a checkpoint, and assigned from one.

State is an explicit list, because the object graphs of Keras' and TensorFlow's savers silently lose
variables. Variable names contain the names of model, layers and optimizer; set these explicitly, or
a second model in the same process gets other names.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pwc_exp.errors import DataError, ResumeError

if TYPE_CHECKING:
    import keras

    from pwc_exp.checkpoints.folder import Checkpoint

MODEL_PREFIX = "model/"
EMA_PREFIX = "ema/"  # moving averages of the model's variables, by the same paths
OPTIMIZER_PREFIX = "optimizer/"
_SHOWN = 5  # names in an error message


class Variable(Protocol):
    """A Keras or TensorFlow variable: it can be saved and assigned."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size in each dimension."""

    def assign(self, value: np.ndarray) -> object:
        """Sets all values."""

    def __array__(self) -> np.ndarray: ...


def named_state(
    model: "keras.Model", optimizer: "keras.Optimizer | None" = None
) -> dict[str, Variable]:
    """Lists every variable of `model` and of a built `optimizer`, by a unique name."""
    named = [(MODEL_PREFIX + variable.path, variable) for variable in model.variables]
    if optimizer is not None:
        named += [(OPTIMIZER_PREFIX + variable.path, variable) for variable in optimizer.variables]
    state = dict(named)
    if len(state) != len(named):
        names = [name for name, _ in named]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"Every variable needs a name of its own. Received: {first(twice)}")
    return state


def restore(state: Mapping[str, Variable], checkpoint: "Checkpoint") -> None:
    """Sets every variable of `state` to the bits in `checkpoint`: all of them, or none.

    Raises:
        ResumeError: names, shapes or types differ, or a weight is NaN or infinite.
    """
    arrays = checkpoint.arrays
    live = {name: np.asarray(state[name]).dtype for name in state if name in arrays}
    types = [
        f"{name} {arrays[name].dtype}, not {dtype}"
        for name, dtype in live.items()
        if arrays[name].dtype != dtype
    ]
    if unlike := [*_differences(state, arrays), *_listed("of another type", types)]:
        raise ResumeError(
            f"{checkpoint.path} is not of this model and optimizer: {'; '.join(unlike)}"
        )
    if bad := non_finite(arrays):
        raise ResumeError(f"{checkpoint.path} {_holds_non_finite(bad)}")
    for name, variable in state.items():
        variable.assign(arrays[name])


def assign_weights(
    state: Mapping[str, Variable], arrays: Mapping[str, np.ndarray], *, source: str
) -> None:
    """Sets the model's variables in `state` to the `weights_of` `arrays`: all of them, or none.

    Args:
        source: where the arrays come from, for error messages.

    Raises:
        DataError: names or shapes differ, or a value is NaN or infinite.
    """
    variables = {name: state[name] for name in state if name.startswith(MODEL_PREFIX)}
    weights = weights_of(arrays)
    if unlike := _differences(variables, weights):
        raise DataError(f"{source} holds weights of another architecture: {'; '.join(unlike)}")
    if bad := non_finite(weights):
        raise DataError(f"{source} {_holds_non_finite(bad)}")
    for name, variable in variables.items():
        variable.assign(weights[name])


def weights_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The model's arrays in a checkpoint; moving averages where the checkpoint has them."""
    weights = {name: arrays[name] for name in arrays if name.startswith(MODEL_PREFIX)}
    averages = {
        MODEL_PREFIX + name.removeprefix(EMA_PREFIX): arrays[name]
        for name in arrays
        if name.startswith(EMA_PREFIX)
    }
    return weights | averages


def non_finite(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the weights and averages that hold NaN or infinity."""
    weights = [name for name in arrays if name.startswith((MODEL_PREFIX, EMA_PREFIX))]
    return [name for name in weights if not np.isfinite(arrays[name]).all()]


def first(names: Iterable[str]) -> str:
    """The first few of `names`, for an error message."""
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _differences(state: Mapping[str, Variable], arrays: Mapping[str, np.ndarray]) -> list[str]:
    """How names and shapes in `arrays` differ from those of `state`."""
    shapes = [
        f"{name} {arrays[name].shape}, not {tuple(variable.shape)}"
        for name, variable in state.items()
        if name in arrays and arrays[name].shape != tuple(variable.shape)
    ]
    return [
        *_listed("missing", [name for name in state if name not in arrays]),
        *_listed("unexpected", [name for name in arrays if name not in state]),
        *_listed("of another shape", shapes),
    ]


def _listed(what: str, names: list[str]) -> list[str]:
    return [f"{len(names)} {what} ({first(names)})"] if names else []


def _holds_non_finite(names: list[str]) -> str:
    return f"holds NaN or infinity in {len(names)} variables ({first(names)})"
