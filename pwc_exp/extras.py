"""Packages that only some commands need: the extras of this one."""

import importlib
import importlib.util
from types import ModuleType

from pwc_exp.errors import MissingExtraError


def needed(package: str, extra: str) -> ModuleType:
    """Imports a package that only some commands need.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(
            f"{package} is not installed: pip install 'pwc_exp[{extra}]' ({error})"
        ) from error


def require(package: str, extra: str) -> None:
    """Checks that a package is there, without importing it.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(f"{package} is not installed: pip install 'pwc_exp[{extra}]'")
