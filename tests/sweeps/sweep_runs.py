"""Sweeps whose children are no trainings: see child.py."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pwc_exp import cli
from pwc_exp.sweeps import launchers


class Ending(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ending]
FIXED = ("steps=4", "tracking.mlflow=false")


# A sweep as a process of its own, to be killed or stopped.
_PROGRAM = """
import sys
from pwc_exp import cli
from pwc_exp.sweeps import launchers

launchers.PROGRAM = (sys.executable, sys.argv.pop(1))
cli.run("train", "pwc_exp.training.loop:train")
"""


def command(*arguments: str) -> list[str]:
    """The command that runs such a sweep."""
    child = str(Path(__file__).with_name("child.py"))
    return [sys.executable, "-c", _PROGRAM, child, "-m", *FIXED, *arguments]


def wait_for(pattern: str, seconds: float = 120.0) -> None:
    """Waits until a file of that pattern is there, below outputs/."""
    deadline = time.monotonic() + seconds
    while not list(Path("outputs").glob(pattern)):
        if time.monotonic() > deadline:
            raise TimeoutError(pattern)
        time.sleep(0.1)


def runner(root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """(arguments) -> the end of `python -m pwc_exp.train -m steps=4 …` in an empty folder."""
    program = (sys.executable, str(Path(__file__).with_name("child.py")))
    monkeypatch.setattr(launchers, "PROGRAM", program)
    for name in ("HYDRA_FULL_ERROR", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.setenv(name, "0")

    def call(*arguments: str) -> Ending:
        monkeypatch.setattr(sys, "argv", ["train", "-m", *FIXED, *arguments])
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "pwc_exp.train", *sys.argv[1:]])
        try:
            cli.run("train", "pwc_exp.training.loop:train")
        except SystemExit as end:
            code = end.code
        else:
            code = 0
        assert isinstance(code, int)
        return Ending(code, *capfd.readouterr())

    return call
