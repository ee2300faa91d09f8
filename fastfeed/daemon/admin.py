"""What the operator's commands on a pool do: list, warm, pin, unpin, evict, explain. JSON in, JSON out.

What they say of a set is counted in the pool when it is said. Names come from the pool's catalog; what is not known
there is looked for at its origin. Long work on many chunks lets the event loop go on between portions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from fastfeed.daemon.catalog import Entry
from fastfeed.daemon.explaining import explain
from fastfeed.daemon.pool_service import PoolService
from fastfeed.daemon.row_places import row_extent
from fastfeed.daemon.sets import ObjectSet, ShardSet
from fastfeed.dataset.folder import MANIFEST_FOLDER
from fastfeed.errors import CacheFullError, ConfigError, DatasetNotFoundError
from fastfeed.format.sizes import format_size
from fastfeed.wire.hot import CHUNK_BYTES

# Chunks that are evicted, or objects that are looked at, before others have their turn: about a millisecond.
PORTION = 256


class PoolAdmin:
    """The commands on one pool."""

    def __init__(self, service: PoolService) -> None:
        self._service = service
        self._pool, self._catalog = service.pool, service.catalog

    async def ls(self, url: str | None) -> list[dict[str, Any]]:
        """What is here, by sets; url: only what is at or below it. Bytes that no set has are said apart."""
        said: list[dict[str, Any]] = []
        named: set[bytes] = set()
        for entry in self._catalog.entries():
            told = await self._coverage(entry)
            named.update(entry.each_key())
            if not told["cached_chunks"] and not entry.pinned and not told["open"]:
                self._catalog.forget(entry)  # nothing of it is here any more
            elif url is None or (entry.url.rstrip("/") + "/").startswith(url.rstrip("/") + "/"):
                said.append(told)
        if url is None and (nameless := [key for key in self._pool.held_keys() if key not in named]):
            chunks, cached_bytes = await self._held(nameless)
            said.append(
                _told(f"(in pool {self._service.name}, of sets that nobody opened lately)", None, chunks, chunks,
                      cached_bytes, cached_bytes, pinned=False, is_open=False)
            )  # fmt: skip
        return said

    async def warm(self, url: str, snapshot: int | None, *, watch: bool, stop: bool) -> dict[str, Any]:
        """Begin, watch or stop fetching a set."""
        warming = self._service.warming
        if watch or stop:
            warm = warming.known(url, snapshot)
            if warm is None:
                raise DatasetNotFoundError(f"{url}: is not being fetched. Begin with `fastfeed cache warm {url}`.")
            if stop and warm.running:
                warm.stop("on command")
        else:
            opened, number = await self._open(url, snapshot)
            warm = warming.start(opened, url, number)
            self._catalog.note(Entry.of(opened, number))
            self._service.fetcher.wake()
        warming.settle()
        told = await self._coverage(Entry.of(warm.opened, warm.snapshot))
        return {**told, "running": warm.running, "fetched_bytes": warm.fetched_bytes, "error": warm.error}

    async def pin(self, url: str, snapshot: int | None) -> dict[str, Any]:
        """Keep a set."""
        opened, number = await self._open(url, snapshot)
        entry = Entry.of(opened, number)
        limit_chunks = self._service.evictor.capacity
        others = self._catalog.pinned_keys(besides=self._known(entry))
        chunks = sum(
            count for key, count in zip(entry.each_key(), opened.chunk_counts, strict=True) if key not in others
        )
        pinned_chunks = chunks + sum(self._chunks_of(others))
        if pinned_chunks > limit_chunks:
            raise CacheFullError(
                f"{url}: with it, {format_size(pinned_chunks * CHUNK_BYTES)} would be pinned, and pool "
                f"{self._service.name} holds {format_size(limit_chunks * CHUNK_BYTES)}. Raise its limit, or unpin "
                "something: `fastfeed cache ls`."
            )
        self._catalog.note(entry)
        return await self._coverage(await self._catalog.pin(self._known(entry) or entry))

    async def unpin(self, url: str, snapshot: int | None) -> dict[str, Any]:
        """Let a set go when there is need. DatasetNotFoundError where it is not pinned."""
        pinned = [entry for entry in self._catalog.find(url, snapshot) if entry.pinned]
        if not pinned:
            raise DatasetNotFoundError(
                f"{url}: is not pinned in pool {self._service.name}. `fastfeed cache ls` says what is."
            )
        for entry in pinned:
            unpinned = await self._catalog.unpin(entry)
        return await self._coverage(unpinned)

    async def evict(self, url: str | None, snapshot: int | None) -> dict[str, Any]:
        """Remove a set, or everything, but what is pinned."""
        pinned = self._catalog.pinned_keys()
        if url is None:
            keys = set(self._pool.held_keys())
        else:
            found = self._catalog.find(url, snapshot)
            if not found:
                raise DatasetNotFoundError(f"{url}: nothing of it is known here. `fastfeed cache ls` says what is.")
            keys = {key for entry in found for key in entry.each_key()}
            if snapshot is not None:
                others = [entry for entry in self._catalog.find(url) if entry.snapshot != snapshot]
                keys -= {key for entry in others for key in entry.each_key()}
        _, before_bytes = await self._held(keys)
        await self._evict(keys - pinned)
        _, left_bytes = await self._held(keys - pinned)
        _, pinned_bytes = await self._held(keys & pinned)
        return {"evicted_bytes": before_bytes - left_bytes - pinned_bytes, "pinned_bytes": pinned_bytes}

    async def explain(self, url: str, snapshot: int | None, row: int | None, offset: int | None) -> dict[str, Any]:
        """Why the bytes of a row, or at an offset, are here or not."""
        opened, number = await self._open(url, snapshot)
        if row is not None:
            if not isinstance(opened, ShardSet):
                raise ConfigError(f"{url}: is a file and has no rows. Give --offset.")
            shard, start, end = row_extent(opened.rows, row)
        else:
            if isinstance(opened, ShardSet):
                raise ConfigError(f"{url}: is a dataset: give --row.")
            size_bytes = int(opened.sizes[0])
            if offset is None or not 0 <= offset < size_bytes:
                raise ConfigError(f"{url}: has {size_bytes} bytes; there is no byte {offset}.")
            shard, start, end = 0, offset, offset + 1
        said = [
            explain(self._service, opened.object(shard), chunk)
            for chunk in range(start // CHUNK_BYTES, -(-end // CHUNK_BYTES))
        ]
        what = f"byte {offset}" if row is None else f"row {row}"
        head = f"{what} of {url}" + ("" if number is None else f" (snapshot {number})")
        text = "\n".join(
            [f"{head}: bytes {start:,} to {end:,} of {opened.object(shard).url}", *(each["text"] for each in said)]
        )
        return {"url": url, "snapshot": number, "row": row, "offset": start, "end": end, "chunks": said, "text": text}

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _open(self, url: str, snapshot: int | None) -> tuple[ObjectSet, int | None]:
        """The set of a URL, and its snapshot; None: it is one file. Its origin is asked."""
        objects = self._service.objects
        is_dataset = snapshot is not None or await self._is_dataset(url)
        opened = await (objects.open_snapshot(url, snapshot) if is_dataset else objects.open_url(url, ""))
        if opened.references == 0:  # no client has it: it goes with us
            objects.sets.pop(opened.name, None)
        return opened, opened.manifest.snapshot if isinstance(opened, ShardSet) else None

    async def _is_dataset(self, url: str) -> bool:
        found = self._service.sources.find(f"{url.rstrip('/')}/{MANIFEST_FOLDER}")
        async for _ in found.source.origin.list(found.path):
            return True
        return False

    def _known(self, entry: Entry) -> Entry | None:
        """What the catalog has under an entry's name."""
        return next((each for each in self._catalog.find(entry.url) if each.name == entry.name), None)

    def _chunks_of(self, keys: Iterable[bytes]) -> Iterable[int]:
        """Chunks of objects that pinned sets have, each object once."""
        wanted = set(keys)
        for entry in self._catalog.entries():
            for key, size in zip(entry.each_key(), entry.sizes.tolist(), strict=True):
                if key in wanted:
                    wanted.discard(key)
                    yield -(-size // CHUNK_BYTES)

    async def _coverage(self, entry: Entry) -> dict[str, Any]:
        cached_chunks, cached_bytes = await self._held(entry.each_key())
        sizes = entry.sizes.astype("int64")
        chunks = int((-(-sizes // CHUNK_BYTES)).sum())
        warm = self._service.warming.known(entry.url, entry.snapshot)
        is_open = (warm is not None and warm.running) or any(
            each.references and each.keys == entry.keys for each in self._service.objects.sets.values()
        )
        return _told(
            entry.url, entry.snapshot, chunks, cached_chunks, int(sizes.sum()), cached_bytes,
            pinned=entry.pinned, is_open=is_open,
        )  # fmt: skip

    async def _held(self, keys: Iterable[bytes]) -> tuple[int, int]:
        """Chunks and bytes of objects that are in slots."""
        chunks = cached_bytes = 0
        for number, key in enumerate(keys, start=1):
            held, size_bytes = self._pool.held(key)
            chunks, cached_bytes = chunks + len(held), cached_bytes + size_bytes
            if number % PORTION == 0:
                await asyncio.sleep(0)
        return chunks, cached_bytes

    async def _evict(self, keys: Iterable[bytes]) -> None:
        number = 0
        for key in keys:
            for chunk in self._pool.held(key)[0]:
                self._pool.evict(key, chunk)
                number += 1
                if number % PORTION == 0:
                    await asyncio.sleep(0)


def _told(
    url: str, snapshot: int | None, chunks: int, cached_chunks: int, size_bytes: int, cached_bytes: int,
    *, pinned: bool, is_open: bool,
) -> dict[str, Any]:  # fmt: skip
    return {
        "url": url, "snapshot": snapshot, "chunks": chunks, "cached_chunks": cached_chunks, "bytes": size_bytes,
        "cached_bytes": cached_bytes, "pinned": pinned, "open": is_open,
    }  # fmt: skip


def url_of(given: Mapping[str, Any]) -> str:
    """The URL of a command's arguments."""
    url = given.get("url")
    if not isinstance(url, str) or not url:
        raise ConfigError("the command names no URL")
    return url


def number_of(given: Mapping[str, Any], name: str) -> int | None:
    """A whole number of a command's arguments, at least 0; None where it is not given."""
    value = given.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ConfigError(f"{name}={value!r} is no whole number")
    return value
