"""Spans of time as people write them: 90, "30m", "24h", "7d"."""

from __future__ import annotations

import math
import re

from fastfeed.errors import ConfigError

_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)", re.ASCII | re.IGNORECASE)


def parse_duration_s(duration: str | float, name: str) -> float:
    """`duration` in seconds, at least 0. ConfigError calls the argument `name`."""
    if isinstance(duration, str):
        match = _DURATION.fullmatch(duration.strip())
        seconds = math.nan if match is None else float(match[1]) * _UNIT_S[match[2].lower()]
    else:
        seconds = math.nan if isinstance(duration, bool) else float(duration)
    if not 0 <= seconds < math.inf:
        raise ConfigError(f"{name}={duration!r} is no span of time: write seconds, or '30m', '24h', '7d'.")
    return seconds
