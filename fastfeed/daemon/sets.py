"""Sets: the objects that clients open together, with the chunk map that they share.

The shards of a snapshot are read from the manifest and the index files by the daemon itself; what a client says of them
(the manifest's hash) only has to agree. A set is made once for all its clients, and goes with the last of them.
"""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import xxhash

from fastfeed._native.cache import KEY_BYTES
from fastfeed._native.selection import Selection
from fastfeed.cache.set_map import SetMap
from fastfeed.daemon.files import Files
from fastfeed.daemon.objects import CachedObject, object_key, shard_version
from fastfeed.daemon.row_places import SnapshotRows
from fastfeed.daemon.sources import Found, Sources
from fastfeed.dataset.folder import INDEX_FOLDER, MANIFEST_FOLDER, PRESENT_FOLDER, manifest_name, manifest_number
from fastfeed.dataset.index import check_index_file
from fastfeed.dataset.manifest import Manifest, decode_manifest
from fastfeed.dataset.present import read_present
from fastfeed.dataset.urls import dataset_url, object_urls
from fastfeed.errors import ConfigError, CorruptDataError, DatasetNotFoundError, OriginChangedError
from fastfeed.format.arrow_tail import read_tail
from fastfeed.format.layout import CHUNK_BYTES as FORMAT_CHUNK_BYTES
from fastfeed.format.wording import few
from fastfeed.storage.places import place_of
from fastfeed.wire.hot import CHUNK_BYTES
from fastfeed.wire.messages import CHUNKS_MAX

assert CHUNK_BYTES == FORMAT_CHUNK_BYTES, "the index has one checksum a chunk"
# Manifests of a million shards have 160 MB; an index 4 bytes a row.
MANIFEST_BYTES_MAX = 1 << 30
INDEX_BYTES_MAX = 8 << 30

U64 = npt.NDArray[np.uint64]


class ObjectSet:
    """Objects in the order in which a client counts them. Shared by all who opened it; `references` counts them."""

    def __init__(self, name: Hashable, url: str, sizes: U64, keys: bytes) -> None:
        self.name, self.url, self.sizes, self.keys = name, url, sizes, keys
        chunks = -(-sizes.astype(np.int64) // CHUNK_BYTES)
        self.chunks = int(chunks.sum())
        self.sizes_hash: bytes = xxhash.xxh3_128_digest(sizes.astype("<u8", copy=False).tobytes())
        self.chunk_counts: list[int] = chunks.tolist()
        # Those of the pool's service: how many sessions have it open, and the chunk map while any has.
        self.references = 0
        self.map: SetMap | None = None

    def __len__(self) -> int:
        return len(self.sizes)

    def key(self, number: int) -> bytes:
        """The key of object `number`."""
        return self.keys[number * KEY_BYTES : (number + 1) * KEY_BYTES]

    def object(self, number: int) -> CachedObject:
        """Object number `number`; IndexError where there is none."""
        raise NotImplementedError


class UrlSet(ObjectSet):
    """One object."""

    def __init__(self, only: CachedObject, modified_us: int) -> None:
        super().__init__(("url", only.url, only.etag), only.url, np.array([only.size_bytes], np.uint64), only.key)
        self._only, self.modified_us = only, modified_us

    def object(self, number: int) -> CachedObject:
        if number != 0:
            raise IndexError(f"object {number} of a set of one")
        return self._only


class ShardSet(ObjectSet):
    """The shards of a snapshot. Objects are made when they are first asked for."""

    def __init__(self, name: Hashable, url: str, rows: SnapshotRows, shards: _Shards, objects: Objects) -> None:
        super().__init__(name, url, rows.manifest.shards.file_bytes, shards.keys)
        self.rows, self.manifest = rows, rows.manifest
        self._shards, self._objects = shards, objects
        self._made: dict[int, CachedObject] = {}

    def object(self, number: int) -> CachedObject:
        made = self._made.get(number)
        if made is None:
            if not 0 <= number < len(self):
                raise IndexError(f"object {number} of a set of {len(self)}")
            made = self._made[number] = self._objects.shard(self, number, self._shards)
        return made


class _Shards(NamedTuple):
    """What the index files say, for all shards of a set."""

    urls: list[str]
    checksums: list[npt.NDArray[np.uint32]]  # views of the index files
    keys: bytes


class Objects:
    """The objects of a pool that sets have now, by their keys, and the sets."""

    def __init__(self, pool: str, sources: Sources, files: Files) -> None:
        self._pool, self._sources, self._files = pool, sources, files
        self._objects: WeakValueDictionary[bytes, CachedObject] = WeakValueDictionary()
        self.sets: dict[Hashable, ObjectSet] = {}
        self._opening: dict[Hashable, asyncio.Task[ObjectSet]] = {}

    async def open_dataset(self, url: str, snapshot: int, manifest_hash: bytes) -> ObjectSet:
        """The set of a snapshot's shards. CorruptDataError where the manifest there has another hash."""
        url = dataset_url(url)
        name = ("dataset", url, snapshot, manifest_hash)
        return await self._open(name, lambda: self._read_dataset(name, url, snapshot, manifest_hash))

    async def open_snapshot(self, url: str, snapshot: int | None) -> ObjectSet:
        """The set of a snapshot's shards, of whatever is there now; None: the newest. DatasetNotFoundError."""
        url = dataset_url(url)
        found = self._sources.find(f"{url}/{MANIFEST_FOLDER}")
        names = [each.path.rpartition("/")[2] async for each in found.source.origin.list(found.path)]
        numbers = sorted(number for name in names if (number := manifest_number(name)) is not None)
        wanted = snapshot if snapshot is not None else max(numbers, default=0)
        if wanted not in numbers:
            there = f"Those that exist: {few([*map(str, numbers)])}." if numbers else "There is none at all."
            raise DatasetNotFoundError(f"{url}: there is no snapshot {wanted or ''}. {there}")
        place = f"{url}/{manifest_name(wanted)}"
        data = await self._mapped(place, 0, MANIFEST_BYTES_MAX)
        return await self.open_dataset(url, wanted, read_tail(data, place).xxh3_128)

    async def open_url(self, url: str, etag: str) -> ObjectSet:
        """The set of one object: the version that it has now, which must be `etag` unless that is ""."""
        found = self._sources.find(url)
        info = await found.source.origin.head(found.path)
        if etag and info.etag != etag:
            raise OriginChangedError(
                f"{url}: was replaced since it was opened (ETag {info.etag}, before {etag}). Open it again."
            )
        modified_us = int(info.modified_s * 1e6)
        version = f"etag:{info.etag}" if info.etag else f"modified:{modified_us}:{info.size_bytes}"
        canonical = f"{found.source.origin.url}/{found.path}"
        key = object_key(self._pool, found.source.endpoint, canonical, version)
        known = self._objects.get(key)
        if known is None:
            known = CachedObject(key, url, found.source, found.path, info.size_bytes, etag=info.etag)
            self._objects[key] = known
        made = UrlSet(known, modified_us)
        return self.sets.setdefault(made.name, made)

    def shard(self, of: ShardSet, number: int, shards: _Shards) -> CachedObject:
        """Shard `number`, which another set may have, too."""
        key = of.key(number)
        known = self._objects.get(key)
        if known is None:
            url, columns = shards.urls[number], of.manifest.shards
            source, path = self._sources.find(url)
            known = CachedObject(
                key, url, source, path, int(columns.file_bytes[number]),
                checksums=shards.checksums[number], covered_bytes=int(columns.payload_ends[number]),
            )  # fmt: skip
            self._objects[key] = known
        return known

    async def _open(self, name: Hashable, make: Callable[[], Coroutine[Any, Any, ObjectSet]]) -> ObjectSet:
        if (known := self.sets.get(name)) is not None:
            return known
        task = self._opening.get(name)
        if task is None:
            task = self._opening[name] = asyncio.ensure_future(make())
            task.add_done_callback(lambda done: self._opening.pop(name, None))
        return await asyncio.shield(task)

    async def _read_dataset(self, name: Hashable, url: str, snapshot: int, manifest_hash: bytes) -> ObjectSet:
        manifest = await self._manifest(url, snapshot, manifest_hash)
        # All at once, as many as the origin's limit lets through: there is one for each commit.
        maps = await asyncio.gather(*(
            self._mapped(f"{url}/{INDEX_FOLDER}/{file.name}", file.bytes, INDEX_BYTES_MAX)
            for file in manifest.index_files
        ))  # fmt: skip

        def work() -> _Shards:
            for file, data in zip(manifest.index_files, maps, strict=True):
                check_index_file(data, file, f"{url}/{INDEX_FOLDER}/{file.name}")
            return self._shards_of(url, manifest, maps)

        # Seconds for 10^8 rows: all bytes of the index are hashed, and each shard gets its key.
        shards = await asyncio.to_thread(work)
        made = ShardSet(name, url, SnapshotRows(manifest, maps, await self._present(url, manifest)), shards, self)
        if made.chunks > CHUNKS_MAX:
            raise ConfigError(f"{url}: snapshot {snapshot} has {made.chunks} chunks; a set has at most {CHUNKS_MAX}.")
        return self.sets.setdefault(name, made)

    async def _present(self, url: str, manifest: Manifest) -> Selection | None:
        """The rows that were not deleted; None: all."""
        file = manifest.present
        if file is None:
            return None
        place = f"{url}/{PRESENT_FOLDER}/{file.name}"
        data = await self._mapped(place, file.bytes, INDEX_BYTES_MAX)
        return await asyncio.to_thread(read_present, data, file, manifest.rows, place)

    async def _manifest(self, url: str, snapshot: int, manifest_hash: bytes) -> Manifest:
        place = f"{url}/{manifest_name(snapshot)}"
        # The hash says whether the one that is here will do, also while the origin is down.
        was_here = self._files.has(place)
        data = await self._mapped(place, 0, MANIFEST_BYTES_MAX, may_be_old=True)
        if was_here and read_tail(data, place).xxh3_128 != manifest_hash:
            self._files.forget(place)
            data = await self._mapped(place, 0, MANIFEST_BYTES_MAX)
        found = read_tail(data, place).xxh3_128
        if found != manifest_hash:
            self._files.forget(place)
            raise CorruptDataError(
                f"{place}: has the hash {found.hex()}, and the client's copy {manifest_hash.hex()}. Manifests never "
                "change: was the dataset made anew in the same place? Open it again."
            )
        return await asyncio.to_thread(decode_manifest, data, place)

    async def _mapped(
        self, url: str, size_bytes: int, size_bytes_max: int, *, may_be_old: bool = False
    ) -> memoryview:
        descriptor, info = await self._files.open(url, size_bytes, size_bytes_max, may_be_old=may_be_old)
        try:
            if not info.size_bytes:
                raise CorruptDataError(f"{url}: is empty")
            return memoryview(mmap.mmap(descriptor, info.size_bytes, access=mmap.ACCESS_READ))
        finally:
            os.close(descriptor)

    def _shards_of(self, url: str, manifest: Manifest, maps: list[memoryview]) -> _Shards:
        columns = manifest.shards
        urls, checksums, keys = [], [], []
        where: dict[str, Found] = {}
        for number, shard_url in enumerate(object_urls(url, columns.paths())):
            folder = shard_url.rpartition("/")[0]
            found = where.get(folder)
            if found is None:
                found = where[folder] = self._sources.find(shard_url)
            covered = int(columns.payload_ends[number])
            sums = np.frombuffer(
                maps[columns.index_file[number]],
                "<u4",
                -(-covered // CHUNK_BYTES),
                int(columns.chunk_checksums_at[number]),
            )
            size_bytes = int(columns.file_bytes[number])
            version = shard_version(columns.xxh3_128[number].tobytes(), size_bytes, covered, sums)
            canonical = f"{found.source.origin.url}/{place_of(shard_url).path}"
            urls.append(shard_url)
            checksums.append(sums)
            keys.append(object_key(self._pool, found.source.endpoint, canonical, version))
        return _Shards(urls, checksums, b"".join(keys))
