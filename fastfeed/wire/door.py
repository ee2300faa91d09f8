"""The wire for those who may not need it: its rooms are imported when a daemon is first asked for.

Sockets, subprocesses and messages take 60 ms to import, a fifth of what a process that reads local data needs until its
first batch.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, cast

from fastfeed.wire.place import Place

if TYPE_CHECKING:
    from fastfeed.wire.session import Session


def place_for(cache: str | os.PathLike[str]) -> Place:
    """As `sessions.place_for`."""
    return cast(Place, import_module("fastfeed.wire.sessions").place_for(cache))


def session_at(place: Place) -> Session:
    """As `sessions.session_at`."""
    return cast("Session", import_module("fastfeed.wire.sessions").session_at(place))
