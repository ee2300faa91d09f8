"""A listing of files, as it lies in the memfd of a `Listed`: name, size, age of each. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from fastfeed.wire.framing import ProtocolError

# u64 bytes, u64 modified (microseconds of Unix time), u32 length of the name; then the name.
_ENTRY = struct.Struct("<QQI")
NAME_BYTES_MAX = 4096
# A listing with more files is no folder of a dataset.
LISTING_BYTES_MAX = 256 << 20


class ListedFile(NamedTuple):
    """One file. name: in the folder that was listed."""

    name: str
    size_bytes: int
    modified_us: int


def pack_listing(files: Iterable[ListedFile]) -> bytes:
    """The bytes of a listing, in the order given."""
    parts = []
    for file in files:
        name = file.name.encode("utf-8", "surrogateescape")
        if len(name) > NAME_BYTES_MAX:
            raise ProtocolError(f"a file's name has {len(name)} bytes, at most {NAME_BYTES_MAX} are listed")
        parts += [_ENTRY.pack(file.size_bytes, file.modified_us, len(name)), name]
    return b"".join(parts)


def unpack_listing(data: bytes | memoryview) -> list[ListedFile]:
    """The files of a listing. ProtocolError where it is none."""
    files, at = [], 0
    view = memoryview(data)
    while at < len(view):
        if len(view) - at < _ENTRY.size:
            raise ProtocolError(f"a listing ends in {len(view) - at} bytes that are no entry")
        size_bytes, modified_us, name_bytes = _ENTRY.unpack_from(view, at)
        at += _ENTRY.size
        if name_bytes > min(NAME_BYTES_MAX, len(view) - at):
            raise ProtocolError(f"a listing has a name of {name_bytes} bytes, {len(view) - at} are left")
        name = bytes(view[at : at + name_bytes]).decode("utf-8", "surrogateescape")
        files.append(ListedFile(name, size_bytes, modified_us))
        at += name_bytes
    return files
