"""Nothing that only POSIX has is needed: as on Windows, a run trains, resumes and predicts."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pwc_exp.config.schema import CONFIG_FILE

POSIX_ONLY = ("fcntl", "resource", "termios", "pwd", "grp")
# Our modules must not find them; TensorFlow and the standard library have their own fallbacks.
HIDE = f"""
import builtins, runpy, select, signal, sys
real = builtins.__import__
def hiding(name, globals=None, locals=None, fromlist=(), level=0):
    if name in {POSIX_ONLY!r} and str((globals or {{}}).get("__name__", "")).startswith("pwc_exp"):
        raise ImportError(f"{{name}} is hidden")
    return real(name, globals, locals, fromlist, level)
builtins.__import__ = hiding
for name in ("poll", "SIGUSR2", "SIGHUP"):
    for module in (select, signal):
        if hasattr(module, name):
            delattr(module, name)
module, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
TINY = (
    "model=tiny",
    "data.crop=[64,64]",
    "data.train_size=4",
    "data.val_size=1",
    "tracking=off",
    "batch_size=1",
    "picture_samples=0",
    "schedule=constant",
    "xla=false",
)


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HIDE, *arguments],
        cwd=folder,
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_train_resume_and_predict_need_no_posix_module(tmp_path: Path) -> None:
    run(tmp_path, "pwc_exp.train", *TINY, "steps=1", "save_every=1")
    (config,) = tmp_path.glob(f"outputs/*/*/{CONFIG_FILE}")
    run(tmp_path, "pwc_exp.train", f"resume={config.parent}", "steps=2")
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / name)
    run(tmp_path, "pwc_exp.predict", "a.png", "b.png", f"run={config.parent}", "out=flow")
    assert sorted(path.suffix for path in (tmp_path / "flow").glob("*.*")) == [".flo", ".png"]


def test_no_module_imports_what_only_posix_has() -> None:
    sources = list(Path(__file__).parents[1].glob("pwc_exp/**/*.py"))
    assert sources
    for source in sources:
        for line in source.read_text(encoding="utf-8").splitlines():
            named = (
                line.split()[1].partition(".")[0] if line.startswith(("import ", "from ")) else ""
            )
            assert named not in POSIX_ONLY, source
