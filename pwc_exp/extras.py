"""Packages that only some commands need: the extras of this one."""

import importlib
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
