"""Bytes by tier: what this process read from the cache's disks, and what it was handed by the daemon's ring.

Counted by the native clients of the process, one a daemon, so loaders of one process that read at the same time each
count what all of them read. A forked child counts anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from fastfeed.dataset.dataset import Dataset
from fastfeed.dataset.payload import RemotePayload


class Tiers:
    """Of one loader, over those of its datasets that are not read in place."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self._payloads = [each.opened.payload for each in datasets if isinstance(each.opened.payload, RemotePayload)]
        self._is_all_cached = len(self._payloads) == len(datasets)
        self._begun: tuple[int, dict[str, int]] | None = None  # this process, and its counters when it began to read

    def begin(self) -> None:
        """This process begins to read."""
        if self._payloads and (self._begun is None or self._begun[0] != os.getpid()):
            self._begun = os.getpid(), self._counted()

    def bytes(self, frame_bytes: int) -> dict[str, int]:
        """frames: what the loader counted itself; of these, local: from files in place; and where there is a cache,
        slab and ring since `begin`."""
        if not self._payloads:
            return {"frames": frame_bytes, "local": frame_bytes}
        cached = {"slab": 0, "ring": 0}
        if self._begun is not None and self._begun[0] == os.getpid():
            cached = {tier: count - self._begun[1][tier] for tier, count in self._counted().items()}
        local = 0 if self._is_all_cached else max(0, frame_bytes - sum(cached.values()))
        return {"frames": frame_bytes, "local": local, **cached}

    def _counted(self) -> dict[str, int]:
        clients = {id(opened.client): opened.client for opened in (each.opened() for each in self._payloads)}
        counters = [client.stats() for client in clients.values()]
        return {tier: sum(each[f"{tier}_bytes"] for each in counters) for tier in ("slab", "ring")}
