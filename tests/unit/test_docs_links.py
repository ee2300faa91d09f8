"""Pages link to files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.repository import ROOT, tracked_files

PAGES = [file for file in tracked_files() if file.suffix == ".md"]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_of_a_page_leads_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    dead = [target for target in targets if not (page.parent / target).exists()]
    assert not dead, f"{page.relative_to(ROOT)} links to {dead}"


def test_every_decision_and_every_page_of_the_docs_is_in_its_index() -> None:
    for folder in (ROOT / "docs", ROOT / "docs" / "decisions"):
        listed = LINK.findall((folder / "README.md").read_text(encoding="utf-8"))
        missing = {page.name for page in folder.glob("*.md")} - {"README.md", *listed}
        assert not missing, f"{folder.relative_to(ROOT)}/README.md does not list {missing}"


def test_every_benchmark_is_in_the_page_of_the_benchmarks() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    missing = [file.name for file in (ROOT / "benchmarks").glob("*.py") if f"`{file.name}`" not in text]
    assert not missing, f"benchmarks/README.md does not tell of {missing}"
