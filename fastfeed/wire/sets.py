"""What a session keeps of a set that it has open, so that it can open it again in another session of the daemon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from fastfeed.errors import CorruptDataError, OriginChangedError
from fastfeed.wire.hot import CHUNK_BYTES
from fastfeed.wire.messages import OpenDataset, Opened, OpenUrl

Sizes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class DatasetSet:
    """The shards of one snapshot. sizes: of each, from the manifest that the client has read itself."""

    url: str
    snapshot: int
    manifest_hash: bytes
    sizes: Sizes

    @property
    def key(self) -> tuple[object, ...]:
        return (self.url, self.snapshot, self.manifest_hash)

    def request(self, number: int, deadline_ms: int) -> OpenDataset:
        return OpenDataset(set=number, url=self.url, snapshot=self.snapshot, manifest_hash=self.manifest_hash,
                           deadline_ms=deadline_ms)  # fmt: skip


@dataclass(frozen=True, slots=True)
class UrlSet:
    """One object. etag: of the version that was opened first; "" before."""

    url: str
    etag: str = ""
    sizes: Sizes | None = None

    @property
    def key(self) -> tuple[object, ...]:
        return (self.url, self.etag)

    def request(self, number: int, deadline_ms: int) -> OpenUrl:
        return OpenUrl(set=number, url=self.url, etag=self.etag, deadline_ms=deadline_ms)


WantedSet: TypeAlias = DatasetSet | UrlSet


def check_opened(wanted: WantedSet, opened: Opened) -> Sizes:
    """The sizes of the objects of a set, the same that the daemon counts by.

    CorruptDataError where it read another manifest than we did, OriginChangedError where an object was replaced.
    """
    sizes = wanted.sizes
    if sizes is None:
        sizes = np.array([opened.size_bytes], np.uint64)
    chunks = int(((sizes + np.uint64(CHUNK_BYTES - 1)) // np.uint64(CHUNK_BYTES)).sum())
    if sizes_hash(sizes) == opened.sizes_hash and (len(sizes), chunks) == (opened.objects, opened.chunks):
        return sizes
    if isinstance(wanted, UrlSet):
        text = f"had {int(sizes[0])} bytes when it was opened, and has {opened.size_bytes} now. Open it again."
        raise OriginChangedError(f"{wanted.url}: {text}")
    raise CorruptDataError(
        f"{wanted.url}: of snapshot {wanted.snapshot} this process knows {len(sizes)} shards of {chunks} chunks, the "
        f"cache daemon {opened.objects} of {opened.chunks}. Manifests never change: was this one replaced?"
    )


def sizes_hash(sizes: Sizes) -> bytes:
    """What both sides compare: xxh3-128 of the sizes as little-endian u64."""
    digest: bytes = xxhash.xxh3_128_digest(np.ascontiguousarray(sizes, "<u8").data)
    return digest
