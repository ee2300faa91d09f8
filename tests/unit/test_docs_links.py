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
