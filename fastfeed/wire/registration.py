"""A loader that has told the daemon what it will read, and keeps telling it where it is.

The recipe is sent once a session of the daemon; the place goes into the page, which costs no message. Of one thread:
the loader's. It ends with `close`, or when nobody holds it any more.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fastfeed.wire.page import PageWriter
from fastfeed.wire.recipe import Recipe


class Queue(Protocol):
    """Takes the names of registrations that have ended; never blocks."""

    def append(self, name: RegistrationName, /) -> None: ...


@dataclass(slots=True)
class RegistrationName:
    """What the daemon calls a registration: another number in each session; 0 while it does not know it."""

    number: int = 0


class Registration:
    """Made by `Session.register`."""

    def __init__(self, set_number: int, recipe: Recipe, ended: Queue) -> None:
        self.set_number, self.recipe = set_number, recipe
        self.forecast: Mapping[str, Any] = {}
        self._name = RegistrationName()
        self._page: PageWriter | None = None
        self._place = (recipe.epoch, recipe.position)
        self._is_reading = False
        self._end = weakref.finalize(self, ended.append, self._name)
        self._end.atexit = False

    @property
    def number(self) -> int:
        """The daemon's number for it now."""
        return self._name.number

    def moved(self, number: int, forecast: bytes, page: PageWriter) -> None:
        """The session has registered it, first or anew."""
        self._name.number, self._page = number, page
        self.forecast = json.loads(forecast) if forecast else {}
        if self._is_reading:
            page.begin(number, *self._place)

    def begin(self, epoch: int, position: int) -> None:
        """The loader reads from this place on."""
        self._place, self._is_reading = (epoch, position), True
        if self._page is not None:
            self._page.begin(self.number, epoch, position)

    def step(self, position: int, exposed_wait_s: float) -> None:
        """A batch was handed out after this wait; the next one begins at `position`."""
        self._place = (self._place[0], position)
        if self._page is not None:
            self._page.step(self.number, *self._place, exposed_wait_s)

    def close(self) -> None:
        """The loader reads no more. Idempotent."""
        self._is_reading = False
        if self._page is not None:
            self._page.end(self.number)
        self._end()
