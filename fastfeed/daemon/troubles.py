"""What went wrong lately, for people: each thing once, with how often. Pure but for the clock."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict

from fastfeed.daemon.report import Trouble

log = logging.getLogger("fastfeed.daemon")

# Different ones that are remembered; the oldest go.
TROUBLES_MAX = 50
# The same trouble is written to the log so often at most.
LOG_EVERY_S = 60.0
TEXT_CHARACTERS_MAX = 1000


class Troubles:
    """Not thread-safe: the loop's."""

    def __init__(self) -> None:
        self._troubles: OrderedDict[tuple[str, str], Trouble] = OrderedDict()
        self._logged_s: dict[tuple[str, str], float] = {}

    def add(self, where: str, text: str) -> None:
        """Something went wrong at `where`: "origin s3://data", "disk nvme0"."""
        text = text[:TEXT_CHARACTERS_MAX]
        key = where, text
        known = self._troubles.pop(key, None)
        now_s = time.time()
        self._troubles[key] = Trouble(now_s, where, text, 1 if known is None else known.count + 1)
        if now_s - self._logged_s.get(key, 0.0) > LOG_EVERY_S:
            self._logged_s[key] = now_s
            log.warning("%s: %s", where, text)
        while len(self._troubles) > TROUBLES_MAX:
            gone, _ = self._troubles.popitem(last=False)
            self._logged_s.pop(gone, None)

    def newest(self) -> tuple[Trouble, ...]:
        """The newest first."""
        return tuple(reversed(self._troubles.values()))
