"""A machine that loses power: remembers what was made durable, and may undo any page of what was not."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.helpers.cache_pools import Place

PAGE = 4096


class Power:
    """From now on, for all files of a place's disks."""

    def __init__(self, here: Place) -> None:
        self._here = here
        self._durable: dict[str, bytes] = {}
        here.sync = self._sync

    def fail(self, torn: random.Random) -> None:
        """After the daemon is gone: each page of each file is as it is, or as it was when it was made durable last; RAM
        is empty, and the machine starts again."""
        for path in self._here.root.glob("*/*/s*"):
            now = bytearray(path.read_bytes())
            durable = self._durable.get(str(path), b"").ljust(len(now), b"\0")
            for at in range(0, len(now), PAGE):
                if torn.random() < 0.5:
                    now[at : at + PAGE] = durable[at : at + PAGE]
            path.write_bytes(now)
            self._durable[str(path)] = bytes(now)
        self._here.new_boot()

    def _sync(self, fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        self._durable[path] = Path(path).read_bytes()
