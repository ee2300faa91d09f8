"""From a URL to the origin that serves it, with its limits and retries, and the path there."""

from __future__ import annotations

import asyncio
import mmap
from pathlib import Path

from fastfeed.errors import OriginChangedError
from fastfeed.storage.file_origin import FileOrigin
from fastfeed.storage.options import OriginOptions
from fastfeed.storage.places import Place, place_of
from fastfeed.storage.protocol import ObjectInfo, Origin
from fastfeed.storage.steady import SteadyOrigin

# A file that is read whole is read in ranges of this size, at the same time: one request has one connection's speed.
WHOLE_RANGE_BYTES = 8 << 20
# Manifests and index files are read whole, into memory; what is larger is none.
WHOLE_BYTES_MAX = 8 << 30


def open_origin(url: str, options: OriginOptions | None = None) -> tuple[SteadyOrigin, str]:
    """The origin of `url` and the path in it. Nothing is asked of it yet. ConfigError.

    One origin serves all URLs of the same `place_of(url).root`, so that its limits hold for all of them together.
    """
    options = options or OriginOptions()
    place = place_of(url)
    return SteadyOrigin(_raw(place, options), options), place.path


def _raw(place: Place, options: OriginOptions) -> Origin:
    if place.scheme == "file":
        return FileOrigin(Path("/"), options.in_flight_max)
    # Imported when it is needed: obstore is not fork-safe, and most processes never need it.
    from fastfeed.storage.remote import RemoteOrigin

    return RemoteOrigin(place, options)


async def read_whole(origin: Origin, path: str, size_bytes: int | None = None) -> tuple[bytearray, ObjectInfo]:
    """All bytes of one object, all of the same version. size_bytes: what it must have (OriginChangedError)."""
    info = await origin.head(path)
    if info.size_bytes > WHOLE_BYTES_MAX or (size_bytes is not None and info.size_bytes != size_bytes):
        raise _another_size(origin, path, info, f"at most {WHOLE_BYTES_MAX}" if size_bytes is None else str(size_bytes))
    data = bytearray(info.size_bytes)
    await _fill(origin, path, info, data)
    return data, info


async def read_into(origin: Origin, path: str, into: mmap.mmap) -> ObjectInfo:
    """The same into memory of its size."""
    info = await origin.head(path)
    if info.size_bytes != len(into):
        raise _another_size(origin, path, info, str(len(into)))
    await _fill(origin, path, info, into)
    return info


def _another_size(origin: Origin, path: str, info: ObjectInfo, wanted: str) -> OriginChangedError:
    return OriginChangedError(f"{origin.url}/{path}: has {info.size_bytes} bytes, and {wanted} were expected. It was "
                              "replaced or cut: open the dataset again.")  # fmt: skip


async def _fill(origin: Origin, path: str, info: ObjectInfo, data: bytearray | mmap.mmap) -> None:
    async def fetch(start: int) -> None:
        stop = min(start + WHOLE_RANGE_BYTES, len(data))
        piece = await origin.get_range(path, start, stop, etag=info.etag)
        data[start:stop] = piece.data

    fetches = [asyncio.ensure_future(fetch(start)) for start in range(0, len(data), WHOLE_RANGE_BYTES)]
    try:
        await asyncio.gather(*fetches)
    finally:
        for each in fetches:
            each.cancel()
