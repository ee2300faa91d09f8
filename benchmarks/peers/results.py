"""What a run has found: a line of JSON a step, in a file that grows, so that nothing is measured twice or lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Results:
    """A step is known by its key, a few named values; what it found stands beside them in one flat object."""

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self.path = path
        if fresh:
            path.unlink(missing_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self.steps: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def once(self, key: dict[str, Any], find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was found under this key, else what `find` finds now."""
        if not (known := self.all(**key)):
            known = [{**key, **find()}]
            self.steps += known
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(known[0]) + "\n")
        return known[0]

    def all(self, **key: Any) -> list[dict[str, Any]]:
        return [step for step in self.steps if key.items() <= step.items()]

    def one(self, **key: Any) -> dict[str, Any]:
        return self.all(**key)[0]
