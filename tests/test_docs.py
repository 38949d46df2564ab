"""The documentation outside of docs/, whose links `make docs` checks."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files_and_sections(name: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / name).read_text())
    local = [link for link in links if "://" not in link]
    assert local or name == "CONTRIBUTING.md"
    for path, _, anchor in (link.partition("#") for link in local):
        page = ROOT / (path or name)
        assert page.exists(), f"{name} links to {path}, which does not exist"
        assert not anchor or anchor in anchors(page), f"{path} has no section #{anchor}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250
