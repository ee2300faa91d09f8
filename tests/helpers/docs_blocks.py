"""Runs the code blocks of a Markdown page as a reader would: from the top, in one folder, in one session.

```python blocks of a page share one namespace and ```bash blocks one shell; both run in the page's order,
in a folder that holds `photos/`, a small image folder. Other kinds (text, console) are only shown.
$EXAMPLES is the folder of the examples.
As a program (`python -m tests.helpers.docs_blocks PAGE`) it runs one page in the current folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.helpers.repository import ROOT

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
RUNS = ("python", "bash")
# Examples are small; a page that takes this long is stuck.
PAGE_TIMEOUT_S = 240
END_OF_BLOCK = "--end-of-block--"


class Block(NamedTuple):
    kind: str
    code: str
    line: int  # in the page, from 1, of the first line of code


def blocks(page: str) -> list[Block]:
    """The blocks that run, in order."""
    found = []
    for match in FENCE.finditer(page):
        if match["kind"] in RUNS:
            indent = len(match["indent"])
            code = "".join(line[indent:] or "\n" for line in match["code"].splitlines(keepends=True))
            found.append(Block(match["kind"], code, page.count("\n", 0, match.start("code")) + 1))
    return found


class Shell:
    """One bash for a page: variables and functions live from block to block; the first failure ends it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._tell("set -eo pipefail")

    def run(self, code: str) -> None:
        """Run one block and print what it prints. Raises CalledProcessError where a command fails."""
        # Commands get no input: else one that reads would eat the blocks that follow.
        self._tell(f"{{\n{code}\n}} < /dev/null\necho {END_OF_BLOCK}")
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == END_OF_BLOCK + "\n":
                return
            sys.stdout.write(line)
        raise subprocess.CalledProcessError(self._process.wait(), code)

    def close(self) -> None:
        self._process.communicate()

    def _tell(self, code: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(code + "\n")
        self._process.stdin.flush()


def run_here(name: str, page: str) -> None:
    """Run a page's blocks in this process and folder. A traceback points into the page."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    shell = Shell()
    try:
        for block in blocks(page):
            print(f"{name}:{block.line}", flush=True)
            if block.kind == "bash":
                shell.run(block.code)
            else:
                exec(compile("\n" * (block.line - 1) + block.code, name, "exec"), namespace)
    finally:
        shell.close()


def run_page(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one page's blocks in `folder`, in a process of its own; its output tells what failed and where."""
    environment = dict(os.environ, PYTHONUNBUFFERED="1", EXAMPLES=str(ROOT / "examples"))
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "tests.helpers.docs_blocks", str(page)],
        cwd=folder,
        env=environment,
        text=True,
        check=False,
        timeout=PAGE_TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


if __name__ == "__main__":
    run_here(sys.argv[1], Path(sys.argv[1]).read_text(encoding="utf-8"))
