"""Sweeps whose children are no trainings: see child.py."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pwc_exp import cli
from pwc_exp.sweeps import local


class Ending(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ending]
FIXED = ("steps=4", "tracking.mlflow=false")


def runner(root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """(arguments) -> the end of `python -m pwc_exp.train -m steps=4 …` in an empty folder."""
    program = (sys.executable, str(Path(__file__).with_name("child.py")))
    monkeypatch.setattr(local, "PROGRAM", program)
    for name in ("HYDRA_FULL_ERROR", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.setenv(name, "0")

    def call(*arguments: str) -> Ending:
        monkeypatch.setattr(sys, "argv", ["train", "-m", *FIXED, *arguments])
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "pwc_exp.train", *sys.argv[1:]])
        try:
            cli.run("train", "pwc_exp.training:train")
        except SystemExit as end:
            code = end.code
        else:
            code = 0
        assert isinstance(code, int)
        return Ending(code, *capfd.readouterr())

    return call
