"""Resuming as torchdata's StatefulDataLoader does it, which several contenders share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class StatefulResumable:
    """`loader` has state_dict() and load_state_dict(), and is iterated once."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)

    def state(self) -> Any:
        return self.loader.state_dict()

    def resumed(self, state: Any) -> Iterator[Any]:
        self.loader.load_state_dict(state)
        return iter(self.loader)
