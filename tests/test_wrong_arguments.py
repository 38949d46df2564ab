"""Every wrong argument costs one line that says what to write, before TensorFlow is imported."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINES = [
    line
    for line in Path(__file__).with_name("wrong_arguments.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
]
EXPECTED = dict(zip(LINES[::2], map(str.strip, LINES[1::2]), strict=True))
# Runs each command line in one process; writes [[exit code, stderr, stdout], ...], and what was
# imported and left behind.
PROGRAM = """
import contextlib, io, json, pathlib, shlex, sys
from pwc_exp.__main__ import main

found = []
for line in json.load(sys.stdin):
    sys.argv = ["pwc", *shlex.split(line)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    found.append([code, err.getvalue(), out.getvalue()])
heavy = sorted({"tensorflow", "keras", "mlflow"} & set(sys.modules))
print(json.dumps([found, heavy, sorted(map(str, pathlib.Path().rglob("*")))]))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list], list, list]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(list(EXPECTED)),
        capture_output=True,
        text=True,
        cwd=tmp_path_factory.mktemp("empty"),
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    endings, imported, left = json.loads(done.stdout)
    return dict(zip(EXPECTED, endings, strict=True)), imported, left


@pytest.mark.parametrize("arguments", EXPECTED)
def test_it_costs_one_line_and_an_exit_code(arguments: str, found: tuple) -> None:
    code, error, output = found[0][arguments]
    pattern = ".*".join(map(re.escape, EXPECTED[arguments].split("…")))
    assert re.fullmatch(f"error: {pattern}\n", error), shlex.split(arguments)
    assert code in (2, 66, 73)
    assert output == ""


def test_they_are_many_import_nothing_heavy_and_leave_nothing(found: tuple) -> None:
    assert len(EXPECTED) >= 80
    assert found[1:] == ([], [])
