"""What produced a run."""

import subprocess
from pathlib import Path

from pwc_exp.tracking import record


def test_commit_is_that_of_the_checkout_that_tracks_the_package(tmp_path: Path) -> None:
    package = tmp_path / "repo/package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=m"]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert record.git_state(package) == {}
    git("init", "..")
    git("commit", "--allow-empty", "-m", "of another project")
    assert record.git_state(package) == {}  # as in a virtual environment inside a checkout
    git("add", ".")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert record.git_state(package) == {"commit": commit, "dirty": "false"}
    (package / "new.py").touch()
    assert record.git_state(package) == {"commit": commit, "dirty": "true"}


def test_passwords_are_cut_out_of_addresses() -> None:
    command = "python -m pwc_exp.train tracking.uri=http://me:secret@host:5000/a@b data.root=/c@d"
    shown = "python -m pwc_exp.train tracking.uri=http://host:5000/a@b data.root=/c@d"
    assert record.without_password(command) == shown
