"""The control messages: what client and daemon say to each other beside the hot path (docs/wire.md, section 3).

Every request gets exactly one answer: the one that its docstring names, or `hot.Error`. Descriptors come with an answer
in the order that its docstring gives; their number stands in `descriptors`, and what does not fit one packet follows in
`More` messages of the same request. Numbers of types and tags are for ever (tests/compat/golden/wire).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, ClassVar, TypeAlias

from fastfeed.wire.fields import blob, decode_fields, encode_fields, number, pairs, text
from fastfeed.wire.framing import DESCRIPTORS_MAX, ErrorCode, Frame, ProtocolError, pack_frame
from fastfeed.wire.hot import Error, unpack_error

# The versions of the protocol that this code speaks. A client of the version before the newest always works.
VERSION_MIN = 1
VERSION = 1

# Longer URLs are refused by servers.
URL_BYTES_MAX = 8192
ETAG_BYTES_MAX = 1024
TOKEN_BYTES = 16
HASH_BYTES = 16
# 16 GiB of chunk map: sets of 2,048 TiB.
CHUNKS_MAX = 1 << 31
OBJECTS_MAX = 1 << 24
# Sets that one client has open: a few datasets, and the files that a tool reads through fsspec.
SETS_MAX = 4096
SLABS_MAX = 64
# JSON of a request: what an operator types, or a recipe. Answers that are longer go as a memfd.
JSON_BYTES_MAX = 48 * 1024
# A request that the origin has to answer may take as long as the origin's own deadline, and no longer than this.
DEADLINE_MS_MAX = 3_600_000
DESCRIPTORS_TAG = 0x40
DESCRIPTORS_TOTAL_MAX = 4 + SLABS_MAX


class Kind(IntEnum):
    """What a connection is for. Each client process has one of each."""

    CONTROL = 1  # messages of this module; its end ends the session
    DATA = 2  # hot messages, after the handshake


class Feature(IntFlag):
    """What both sides can, and use only where the other one can, too."""

    NONE = 0


def agreed_version(least: int, most: int) -> int | None:
    """The newest version that a peer that speaks `least` to `most` and this code both speak; None: there is none."""
    version = min(VERSION, most)
    return version if version >= max(VERSION_MIN, least) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Client, first on each connection -> Welcome. token: of the control connection's Welcome, on a data connection.

    pid is for people: whom the kernel names at the socket's other end is who it is.
    """

    TYPE: ClassVar = 0x01

    version_min: int = number(1, limit=0xFFFF)
    version_max: int = number(2, limit=0xFFFF)
    features: int = number(3, default=0)
    kind: int = number(4, limit=0xFF)
    pid: int = number(5, default=0)
    job: str = text(6, limit=256, default="")
    token: bytes = blob(7, limit=TOKEN_BYTES, default=b"")
    pool: str = text(8, limit=256, default="")  # "": the one that this user may read


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """Daemon -> Hello. On a data connection with the descriptors of ring, page, slot words and each slab, and with
    their geometry; slabs: (first slot, slots) of each."""

    TYPE: ClassVar = 0x02

    version: int = number(1, limit=0xFFFF)
    features: int = number(2, default=0)
    daemon_epoch: int = number(3)  # another one after each start of the daemon
    token: bytes = blob(4, limit=TOKEN_BYTES, exact=True)
    pool: str = text(5, limit=256, default="")
    daemon_pid: int = number(6, default=0)
    daemon_version: str = text(7, limit=256, default="")  # of fastfeed
    sets_max: int = number(8, limit=SETS_MAX, default=SETS_MAX)
    ring_bytes: int = number(16, default=0)
    slots: int = number(17, limit=1 << 26, default=0)
    slabs: tuple[tuple[int, int], ...] = pairs(18, count_max=SLABS_MAX)
    descriptors: int = number(DESCRIPTORS_TAG, limit=DESCRIPTORS_TOTAL_MAX, default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class More:
    """Daemon: more descriptors of the answer to this request."""

    TYPE: ClassVar = 0x03


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Daemon: the request is done, and there is nothing to say."""

    TYPE: ClassVar = 0x04


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Either side -> Done."""

    TYPE: ClassVar = 0x05


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """Daemon, unasked: it closes this connection soon. Attach again; not before `again_ms`."""

    TYPE: ClassVar = 0x06

    again_ms: int = number(1, limit=DEADLINE_MS_MAX, default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class List:
    """Client: the files in the folder `url` -> Listed. recursive: 1: below it, too; names are then paths."""

    TYPE: ClassVar = 0x20

    url: str = text(1, limit=URL_BYTES_MAX)
    deadline_ms: int = number(2, limit=DEADLINE_MS_MAX)
    recursive: int = number(3, limit=1, default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Daemon -> List, with a sealed memfd of size_bytes: what `listing.pack_listing` makes."""

    TYPE: ClassVar = 0x21

    size_bytes: int = number(1)
    files: int = number(2)
    descriptors: int = number(DESCRIPTORS_TAG, limit=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """Client: the whole object `url` -> FileHere. size_bytes: what it must have; 0:
    whatever it has, up to size_bytes_max."""

    TYPE: ClassVar = 0x22

    url: str = text(1, limit=URL_BYTES_MAX)
    deadline_ms: int = number(2, limit=DEADLINE_MS_MAX)
    size_bytes: int = number(3, default=0)
    size_bytes_max: int = number(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileHere:
    """Daemon -> File, with a sealed memfd of it, which all clients of the pool share."""

    TYPE: ClassVar = 0x23

    size_bytes: int = number(1)
    etag: str = text(2, limit=ETAG_BYTES_MAX, default="")
    modified_us: int = number(3, default=0)
    descriptors: int = number(DESCRIPTORS_TAG, limit=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Client: what is known of the object `url` -> HeadOf; NOT_FOUND."""

    TYPE: ClassVar = 0x24

    url: str = text(1, limit=URL_BYTES_MAX)
    deadline_ms: int = number(2, limit=DEADLINE_MS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOf:
    """Daemon -> Head."""

    TYPE: ClassVar = 0x25

    size_bytes: int = number(1)
    etag: str = text(2, limit=ETAG_BYTES_MAX, default="")
    modified_us: int = number(3, default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDataset:
    """Client: the shards of a snapshot as set number `set`, which the client chooses -> Opened.

    manifest_hash: xxh3-128 in the manifest's tail. The daemon reads the manifest itself; another hash is CORRUPT.
    """

    TYPE: ClassVar = 0x28

    set: int = number(1, limit=SETS_MAX - 1)
    url: str = text(2, limit=URL_BYTES_MAX)
    snapshot: int = number(3)
    manifest_hash: bytes = blob(4, limit=HASH_BYTES, exact=True)
    deadline_ms: int = number(5, limit=DEADLINE_MS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenUrl:
    """Client: one object as set number `set`, which the client chooses -> Opened. etag: the version it must be, ""
    for whichever there is."""

    TYPE: ClassVar = 0x29

    set: int = number(1, limit=SETS_MAX - 1)
    url: str = text(2, limit=URL_BYTES_MAX)
    etag: str = text(3, limit=ETAG_BYTES_MAX, default="")
    deadline_ms: int = number(4, limit=DEADLINE_MS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Daemon -> OpenDataset, OpenUrl, with the sealed memfd of the set's chunk map.

    sizes_hash: xxh3-128 of the objects' sizes as u64, so that both sides count chunks alike. size_bytes, etag:
    of OpenUrl.
    """

    TYPE: ClassVar = 0x2A

    objects: int = number(1, limit=OBJECTS_MAX)
    chunks: int = number(2, limit=CHUNKS_MAX)
    sizes_hash: bytes = blob(3, limit=HASH_BYTES, exact=True)
    size_bytes: int = number(4, default=0)
    etag: str = text(5, limit=ETAG_BYTES_MAX, default="")
    modified_us: int = number(6, default=0)
    descriptors: int = number(DESCRIPTORS_TAG, limit=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseSet:
    """Client: this set is not read any more -> Done."""

    TYPE: ClassVar = 0x2B

    set: int = number(1, limit=SETS_MAX - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Client: a loader will read this set as the recipe says (JSON of `recipe.Recipe`) -> Registered. Until Unregister,
    or the session's end, its progress is in the client's page, under the number of the answer."""

    TYPE: ClassVar = 0x30

    set: int = number(1, limit=SETS_MAX - 1)
    recipe: bytes = blob(2, limit=JSON_BYTES_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """Daemon -> Register. registration: not 0. forecast: JSON, for people."""

    TYPE: ClassVar = 0x31

    registration: int = number(1)
    forecast: bytes = blob(2, limit=JSON_BYTES_MAX, default=b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unregister:
    """Client: that loader has ended -> Done."""

    TYPE: ClassVar = 0x32

    registration: int = number(1)


class Command(IntEnum):
    """The operator's requests: message types of their own, all of one shape (`Ask`)."""

    STATUS = 0x40
    LS = 0x41
    WARM = 0x42
    PIN = 0x43
    UNPIN = 0x44
    EVICT = 0x45
    DRAIN = 0x46
    EXPLAIN = 0x47
    CONFIG = 0x48


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Client: an operator's command; its type is the command -> Told. arguments: a JSON object."""

    command: Command
    arguments: bytes = b"{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Daemon -> Ask: JSON; where it is long, in a sealed memfd instead."""

    TYPE: ClassVar = 0x4F

    text: bytes = blob(1, limit=JSON_BYTES_MAX, default=b"")
    size_bytes: int = number(2, default=0)  # of the memfd
    descriptors: int = number(DESCRIPTORS_TAG, limit=1, default=0)


Declared: TypeAlias = (
    Hello | Welcome | More | Done | Ping | Leaving | List | Listed | File | FileHere | Head | HeadOf
    | OpenDataset | OpenUrl | Opened | CloseSet | Register | Registered | Unregister | Told
)  # fmt: skip
Message: TypeAlias = Declared | Ask | Error

_TYPES: dict[int, Callable[..., Declared]] = {
    each.TYPE: each
    for each in (Hello, Welcome, More, Done, Ping, Leaving, List, Listed, File, FileHere, Head, HeadOf,
                 OpenDataset, OpenUrl, Opened, CloseSet, Register, Registered, Unregister, Told)
}  # fmt: skip
_COMMANDS = frozenset(map(int, Command))


@dataclass(frozen=True, slots=True)
class _Arguments:
    """The body of an `Ask`."""

    arguments: bytes = blob(1, limit=JSON_BYTES_MAX, default=b"{}")


def pack(message: Message, request: int) -> bytes:
    """The packet of a control message. ProtocolError where a value passes its limit."""
    if isinstance(message, Error):
        return pack_frame(message.TYPE, request, message.body())
    if isinstance(message, Ask):
        return pack_frame(message.command, request, encode_fields(_Arguments(message.arguments)))
    return pack_frame(message.TYPE, request, encode_fields(message))


def unpack(frame: Frame) -> Message:
    """The control message in a frame. ProtocolError: malformed, or unsupported where nothing has its type."""
    if frame.type == Error.TYPE:
        return unpack_error(frame)
    if frame.type in _COMMANDS:
        return Ask(command=Command(frame.type), arguments=decode_fields(_Arguments, frame.body).arguments)
    kind = _TYPES.get(frame.type)
    if kind is None:
        raise ProtocolError(f"no control message has type {frame.type:#x}", ErrorCode.UNSUPPORTED)
    return decode_fields(kind, frame.body)


def portions(descriptors: list[int]) -> list[list[int]]:
    """Descriptors as packets carry them: the first portion with the answer itself, the others with a `More` each."""
    return [descriptors[at : at + DESCRIPTORS_MAX] for at in range(0, len(descriptors), DESCRIPTORS_MAX)] or [[]]


def descriptor_count(message: Any) -> int:
    """How many descriptors come with a message."""
    return int(getattr(message, "descriptors", 0))
