"""What produced a run: commit, command line, versions of the software."""

import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pwc_exp

_LIBRARIES = ("tensorflow", "keras", "numpy", "hydra-core", "mlflow")


def describe_process() -> dict[str, str]:
    """Describes this process, so that what it does can be repeated."""
    return {
        "command": command_line(),
        "program": program_name(),
        **git_state(Path(pwc_exp.__file__).parent),
        "python": platform.python_version(),
        "platform": f"{platform.platform()}, {os.cpu_count()} processors",
        "pwc_exp": pwc_exp.__version__,
        **library_versions(),
    }


def command_line() -> str:
    """The command of this process, quoted for a shell, without passwords in addresses."""
    program, *arguments = sys.orig_argv or sys.argv
    return without_password(shlex.join([Path(program).name, *arguments]))


def program_name() -> str:
    """The module or script that runs, such as `pwc_exp.train`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else Path(sys.argv[0]).name


def git_state(folder: Path) -> dict[str, str]:
    """Commit of the checkout that tracks `folder`, and whether files differ from it.

    Empty if there is none, such as for a package in a virtual environment inside another project's
    checkout, which does not track it.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        commit = git("rev-parse", "HEAD")
        dirty = bool(git("status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": commit, "dirty": str(dirty).lower()}


def short_commit(about: Mapping[str, str]) -> str:
    """The commit in `describe_process`: 7 digits, and + if files differ from it; "" if unknown."""
    commit = about.get("commit", "")[:7]
    return f"{commit}+" if commit and about.get("dirty") == "true" else commit


def without_password(text: str) -> str:
    """Removes `name:password@` from addresses."""
    return re.sub(r"(\w://)[^/@\s]*@", r"\1", text)


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that results depend on."""
    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue  # such as a run on another Keras backend
    return versions
