"""What a run has found: a line of JSON a step, in a file that grows, so that nothing is measured twice or lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Results:
    """A step is known by its key, a few named values; what it found stands beside them in one flat object.

    With `again` the steps that failed before are forgotten, so that they are done again.
    """

    def __init__(self, path: Path, *, fresh: bool = False, again: bool = False) -> None:
        self.path = path
        if fresh:
            path.unlink(missing_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.steps: list[dict[str, Any]] = [json.loads(line) for line in lines]
        if again and any("failed" in step for step in self.steps):
            self.steps = [step for step in self.steps if "failed" not in step]
            path.write_text("".join(json.dumps(step) + "\n" for step in self.steps), encoding="utf-8")

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
