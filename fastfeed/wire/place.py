"""Where a daemon listens, as a value: what readers keep of the wire while they need none of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from fastfeed.errors import ConfigError


class Start(Enum):
    """Who runs the daemon of a place."""

    NEVER = "someone else"
    DETACHED = "this user: it is started when nobody answers, and leaves when it is idle"
    CHILD = "this job alone: it is started as a child, and ends with the job"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a daemon listens. said: the argument that meant it, for processes that have to find theirs anew."""

    socket: Path
    start: Start = Start.NEVER
    said: str = field(default="", compare=False)


def checked_cache(cache: str | os.PathLike[str]) -> str:
    """The argument `cache` of `fastfeed.open`. ConfigError for what it cannot be."""
    text = os.fspath(cache)
    if not isinstance(text, str) or (text not in ("auto", "off") and "/" not in text):
        raise ConfigError(f"cache={text!r}: choose 'auto', 'off', or the path of a cache daemon's socket.")
    return text
