"""Data sets that are brought onto the disk: fetched from their authors, or made of another."""

from pathlib import Path

from pwc_exp.config.commands import DataFetchConfig, DataHalfresConfig
from pwc_exp.config.data import FilesConfig
from pwc_exp.data import halfres as halving
from pwc_exp.data.datasets.catalogue import CATALOGUE
from pwc_exp.data.fetch import fetch as fetch_entry
from pwc_exp.errors import ConfigError, DataError
from pwc_exp.machine import processors


def halfres(config: DataHalfresConfig) -> None:
    """Makes FlyingThings3D at half its size, or what an earlier call left to make.

    Raises:
        DataError: a file could not be halved; all others are.
    """
    made = halving.halve(
        Path(config.root), Path(config.out), workers=config.workers or len(processors())
    )
    print(f"{made.frames} frames and {made.flows} flows found, {made.ignored} other files left")
    print(f"{made.outcome.made} made, {made.outcome.kept} there already: {config.out}")
    if failures := made.outcome.failures:
        raise DataError(f"{len(failures)} files could not be halved. The first: {failures[0]}")


def fetch(config: DataFetchConfig) -> None:
    """Shows what would be downloaded and on what terms; with accept_licence, does it.

    Raises:
        ConfigError: the catalogue has no such entry.
    """
    name = config.entry or str(config.data.name)
    if name not in CATALOGUE or not isinstance(config.data, FilesConfig):
        alike = [known for known in CATALOGUE if known.startswith(config.data.name)] or CATALOGUE
        raise ConfigError(f"entry must be one of {', '.join(alike)}. Received: {name}")
    fetched = fetch_entry(
        CATALOGUE[name],
        Path(config.data.root or ""),
        accept_licence=config.accept_licence,
        keep_archives=config.keep_archives,
    )
    if fetched.pending:
        print("To download on these terms: accept_licence=true")
