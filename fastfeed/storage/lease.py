"""The lock of a dataset in an object store, which has none: objects that say who is there, and that grow old.

Writers (shared):      1. Put `_feed/locks/writing-<token>`.   2. Look for `collecting-*`. If one is there and fresh:
                       remove ours, wait, from 1 again.   3. Publish and commit; renew ours.   4. Remove it.
Collector (exclusive): 1. Put `_feed/locks/collecting-<token>`.   2. Look for another collector. If one is there and
                       fresh: remove ours, wait, from 1 again.   3. While there is a fresh `writing-*`: wait.
                       4. Collect; renew ours.   5. Remove it, and those that have grown old.
Each puts before it looks, and stores list what was put before: so never do two go on that may not. What is not renewed
for LEASE_S belongs to a process that died, and counts no more. Nobody removes another's fresh object. The ages are the
store's; clocks may differ by minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import random
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastfeed.errors import CommitConflictError, OriginError
from fastfeed.storage.protocol import Origin

LOCK_FOLDER = "_feed/locks"
COLLECTING = "collecting-"
WRITING = "writing-"
# Renewed six times in a lease: five may fail in a row.
LEASE_S = 1800.0
RENEWAL_S = 300.0
# As long as a local lock is waited for.
WAIT_S_MAX = 600.0
POLL_S = 1.0


class Leases:
    """The lock objects of the dataset below `prefix`."""

    def __init__(
        self, origin: Origin, prefix: str, *, lease_s: float = LEASE_S, wait_s_max: float = WAIT_S_MAX
    ) -> None:
        self._origin = origin
        self._folder = f"{prefix}/{LOCK_FOLDER}".strip("/")
        self._lease_s = lease_s
        self._wait_s_max = wait_s_max

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """For who publishes and commits. CommitConflictError where a collection goes on for too long."""
        async with self._alone_but_for(WRITING, "is being collected (fastfeed gc)"):
            yield

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """For who removes. CommitConflictError where writers, or another collector, go on for too long."""
        deadline_s = time.monotonic() + self._wait_s_max
        async with self._alone_but_for(COLLECTING, "is being collected by another process"):
            while await self._fresh(WRITING):
                await self._wait(deadline_s, "is being written to")
            yield
            for old in await self._lock_objects(fresh=False):
                await self._origin.delete(old)

    @asynccontextmanager
    async def _alone_but_for(self, kind: str, why: str) -> AsyncIterator[None]:
        """Hold an object of this kind, while no other collector does."""
        mine = f"{self._folder}/{kind}{secrets.token_hex(8)}"
        deadline_s = time.monotonic() + self._wait_s_max
        while True:
            await self._origin.put(mine, _words())
            if not [each for each in await self._fresh(COLLECTING) if each != mine]:
                break
            await self._origin.delete(mine)
            await self._wait(deadline_s, why)
        async with self._held(mine):
            yield

    async def _fresh(self, kind: str) -> list[str]:
        return [each for each in await self._lock_objects(fresh=True) if each.rpartition("/")[2].startswith(kind)]

    async def _lock_objects(self, *, fresh: bool) -> list[str]:
        """The lock objects that have been renewed in time, or those that have not."""
        oldest_s = time.time() - self._lease_s
        return [
            each.path
            async for each in self._origin.list(self._folder)
            if ((each.modified_s or 0.0) > oldest_s) == fresh
        ]

    @asynccontextmanager
    async def _held(self, name: str) -> AsyncIterator[None]:
        renewal = asyncio.create_task(self._renew(name))
        try:
            yield
        finally:
            renewal.cancel()
            with suppress(asyncio.CancelledError, OriginError):
                await renewal
            with suppress(OriginError):  # it grows old
                await self._origin.delete(name)

    async def _renew(self, name: str) -> None:
        while True:
            await asyncio.sleep(min(RENEWAL_S, self._lease_s / 6))
            with suppress(OriginError):  # once more in a while
                await self._origin.put(name, _words())

    async def _wait(self, deadline_s: float, why: str) -> None:
        if time.monotonic() > deadline_s:
            raise CommitConflictError(
                f"{self._origin.url}/{self._folder}: for {self._wait_s_max:.0f} s the dataset {why}. Nothing was "
                f"changed; try again when that is done. (A lock object counts no more {self._lease_s:.0f} s after its "
                "process died.)"
            )
        # Random, so that two collectors do not step back together for ever.
        await asyncio.sleep(min(POLL_S, self._wait_s_max / 10) * (0.5 + random.random()))


def _words() -> bytes:
    """What a person reads in a lock object."""
    return json.dumps({"host": platform.node(), "pid": os.getpid(), "time": time.time()}).encode()
