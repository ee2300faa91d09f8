"""Every python and bash block of the README and the docs runs, on a small folder of real photographs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import photographs
from tests.helpers.docs_blocks import Block, blocks, run_page
from tests.helpers.repository import ROOT

PAGES = [
    page
    for page in [
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "examples").rglob("*.md")),
    ]
    if blocks(page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    photographs.write_folder(tmp_path / "photos")
    finished = run_page(page, tmp_path)
    assert finished.returncode == 0, finished.stdout


class TestTheRunner:
    def page(self, folder: Path, text: str) -> Path:
        path = folder / "page.md"
        path.write_text(text, encoding="utf-8")
        return path

    def test_finds_python_and_bash_blocks_with_their_lines_and_nothing_else(self) -> None:
        text = "```python\na = 1\n```\n\n```text\nno\n```\n  ```bash\n  ls\n\n  ```\n```console\n$ no\n```\n"
        assert blocks(text) == [Block("python", "a = 1\n", 2), Block("bash", "ls\n\n", 9)]

    def test_keeps_names_and_variables_from_block_to_block(self, tmp_path: Path) -> None:
        text = (
            "```python\na = 1\n```\n```bash\nb=2; cat > b.txt <<X\n$b\nX\n```\n"
            "```python\nprint(a + int(open('b.txt').read()))\n```\n```bash\necho b is $b\n```\n"
        )
        finished = run_page(self.page(tmp_path, text), tmp_path)
        assert finished.returncode == 0, finished.stdout
        assert finished.stdout.splitlines()[-3:] == ["3", finished.stdout.splitlines()[-2], "b is 2"]

    def test_fails_where_a_python_block_raises_and_names_the_line_of_the_page(self, tmp_path: Path) -> None:
        finished = run_page(
            self.page(tmp_path, "text\n\n```python\na = 1\nraise KeyError(a)\n```\n"), tmp_path
        )
        assert finished.returncode != 0
        assert 'page.md", line 5' in finished.stdout

    @pytest.mark.parametrize("code", ["false", "false | true", "exit 3", "nosuchcommand"])
    def test_fails_where_a_bash_block_fails(self, code: str, tmp_path: Path) -> None:
        finished = run_page(self.page(tmp_path, f"```bash\n{code}\necho after\n```\n"), tmp_path)
        assert finished.returncode != 0
        assert "\nafter\n" not in finished.stdout
