"""What the bytes of a pool are called: the sets that were opened, by URL, and which of them are pinned.

Slots know keys, not URLs. So each set that a client opens is noted with its keys, and what is noted is kept beside
the slabs, one small file a set, over restarts. It is for people: nothing on the way of a byte asks here. A note that is
lost or damaged costs a name in `fastfeed cache ls`, and a pin.

The loop's, but for the files: they are read when the pool opens, and written by a thread of their own, for a disk may
hang. A file appears whole (written beside, renamed); pins are on disk when `pin` returns.
"""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from fastfeed._native.cache import KEY_BYTES
from fastfeed.daemon.disk_threads import DiskThread
from fastfeed.daemon.sets import ObjectSet

FOLDER = "sets"
MAGIC = b"FFSETS01"
# magic, length of the JSON, objects.
_HEADER = struct.Struct("<8sIQ")
_DIGEST_BYTES = 8
# Datasets, and files that tools read one by one. Beyond it, the one that was opened longest ago is forgotten.
ENTRIES_MAX = 4096
# Of a file: a set of 2^24 objects, and some text.
FILE_BYTES_MAX = 512 << 20
WRITE_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 5.0

Name = tuple[str, int | None]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A set by its name. snapshot: of a dataset; None: one file, in the version that was opened last."""

    url: str
    snapshot: int | None
    keys: bytes
    sizes: npt.NDArray[np.uint64]
    pinned: bool
    opened_s: float  # Unix time

    @property
    def name(self) -> Name:
        return self.url, self.snapshot

    def each_key(self) -> Iterator[bytes]:
        """The keys of the objects."""
        return (self.keys[at : at + KEY_BYTES] for at in range(0, len(self.keys), KEY_BYTES))

    @classmethod
    def of(cls, opened: ObjectSet, snapshot: int | None) -> Entry:
        return cls(opened.url, snapshot, opened.keys, opened.sizes, False, time.time())


class Catalog:
    """Of one pool. folder: beside its slabs; None: nothing is kept. `pinned` and `unpinned` are told of keys."""

    def __init__(
        self,
        folder: Path | None,
        thread: DiskThread,
        on_trouble: Callable[[str, str], None],
        pinned: Callable[[bytes], None],
        unpinned: Callable[[bytes], None],
    ) -> None:
        """Blocks: reads what was kept."""
        self._folder, self._thread, self._on_trouble = folder, thread, on_trouble
        self._pinned, self._unpinned = pinned, unpinned
        self._entries: dict[Name, Entry] = {}
        if folder is not None:
            folder.mkdir(mode=0o700, exist_ok=True)
            for path in sorted(folder.iterdir()):
                self._load(path)
        for entry in self._entries.values():
            if entry.pinned:
                self._tell(entry.each_key(), pinned)

    def entries(self) -> list[Entry]:
        """All that is known, in the order in which it was opened."""
        return sorted(self._entries.values(), key=lambda entry: entry.opened_s)

    def find(self, url: str, snapshot: int | None = None) -> list[Entry]:
        """What is known of a URL: the file, or the snapshots of the dataset, or the one snapshot."""
        url = url.rstrip("/")
        return [
            entry
            for entry in self.entries()
            if entry.url.rstrip("/") == url and (snapshot is None or entry.snapshot == snapshot)
        ]

    def note(self, entry: Entry) -> None:
        """A set was opened."""
        known = self._entries.get(entry.name)
        if known is not None and known.keys == entry.keys:
            self._entries[entry.name] = replace(known, opened_s=entry.opened_s)
            return
        if known is not None and known.pinned:  # another version in the same place: it is pinned in its turn
            entry = replace(entry, pinned=True)
            self._tell(known.each_key(), self._unpinned)
            self._tell(entry.each_key(), self._pinned)
        self._entries[entry.name] = entry
        self._submit(lambda: self._write(entry))
        if len(self._entries) > ENTRIES_MAX:
            self.forget(
                next(each for each in self.entries() if not each.pinned or len(self._entries) > 2 * ENTRIES_MAX)
            )

    async def pin(self, entry: Entry) -> Entry:
        """Keep an entry's objects, now and after a restart. OSError where that could not be written."""
        return await self._mark(entry, pinned=True)

    async def unpin(self, entry: Entry) -> Entry:
        """Let them go. Objects that another pinned set has, too, stay pinned."""
        return await self._mark(entry, pinned=False)

    def forget(self, entry: Entry) -> None:
        """The name of a set of which nothing is here."""
        if self._entries.get(entry.name) is entry:
            del self._entries[entry.name]
            if entry.pinned:
                self._tell(self._not_pinned_elsewhere(entry), self._unpinned)
            self._submit(lambda: self._remove(entry))

    def pinned_keys(self, besides: Entry | None = None) -> set[bytes]:
        """Keys of all pinned sets but one."""
        return {
            key for each in self._entries.values() if each.pinned and each is not besides for key in each.each_key()
        }

    def close(self) -> None:
        """Finish writing. A disk that hangs is not waited for."""
        self._thread.close(CLOSE_TIMEOUT_S)

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _mark(self, entry: Entry, *, pinned: bool) -> Entry:
        marked = replace(entry, pinned=pinned)
        if self._folder is not None:
            await self._thread.call(lambda: self._write(marked, durable=True), WRITE_TIMEOUT_S)
        self._entries[entry.name] = marked
        if pinned:
            self._tell(marked.each_key(), self._pinned)
        else:
            self._tell(self._not_pinned_elsewhere(marked), self._unpinned)
        return marked

    def _not_pinned_elsewhere(self, entry: Entry) -> list[bytes]:
        others = self.pinned_keys(besides=entry)
        return [key for key in entry.each_key() if key not in others]

    @staticmethod
    def _tell(keys: Iterable[bytes], whom: Callable[[bytes], None]) -> None:
        for key in keys:
            whom(key)

    def _submit(self, work: Callable[[], None]) -> None:
        if self._folder is not None:
            self._thread.submit(work, self._done)

    def _done(self, _: Any, error: BaseException | None) -> None:
        if isinstance(error, OSError):
            self._on_trouble("names of the cache's content", f"{error}; `fastfeed cache ls` may lack some.")
        elif error is not None:
            raise error

    def _path(self, entry: Entry) -> Path:
        assert self._folder is not None  # callers look first
        digest = xxhash.xxh3_128_hexdigest(json.dumps(entry.name).encode())
        return self._folder / f"{digest}.set"

    def _write(self, entry: Entry, *, durable: bool = False) -> None:
        path = self._path(entry)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(pack_entry(entry))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
        if durable:
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _remove(self, entry: Entry) -> None:
        self._path(entry).unlink(missing_ok=True)

    def _load(self, path: Path) -> None:
        if path.suffix != ".set" or path.stat().st_size > FILE_BYTES_MAX:
            path.unlink()
            return
        entry = unpack_entry(path.read_bytes())
        if entry is None:
            self._on_trouble("names of the cache's content", f"{path} is damaged, and was removed.")
            path.unlink()
        else:
            self._entries[entry.name] = entry


def pack_entry(entry: Entry) -> bytes:
    """The bytes of an entry's file: header, JSON, keys, sizes, and a hash of all that."""
    words = {"url": entry.url, "snapshot": entry.snapshot, "pinned": entry.pinned, "opened_s": entry.opened_s}
    text = json.dumps(words).encode()
    sizes = np.ascontiguousarray(entry.sizes, "<u8").tobytes()
    data = _HEADER.pack(MAGIC, len(text), len(entry.sizes)) + text + entry.keys + sizes
    return data + xxhash.xxh3_64_digest(data)


def unpack_entry(data: bytes) -> Entry | None:
    """The entry in a file; None where the file is not what was written."""
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if len(body) < _HEADER.size or xxhash.xxh3_64_digest(body) != digest:
        return None
    magic, text_bytes, objects = _HEADER.unpack_from(body)
    keys_at = _HEADER.size + text_bytes
    sizes_at = keys_at + objects * KEY_BYTES
    if magic != MAGIC or len(body) != sizes_at + objects * 8:
        return None
    words = json.loads(body[_HEADER.size : keys_at])
    sizes = np.frombuffer(body, "<u8", objects, sizes_at)
    return Entry(words["url"], words["snapshot"], body[keys_at:sizes_at], sizes, words["pinned"], words["opened_s"])
