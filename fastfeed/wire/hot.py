"""The messages of a miss: GET, its three answers, RELEASE (docs/wire.md, section 4).

Fixed layouts, the only messages that the native reader speaks (csrc/cache); this codec is the daemon's side of them,
and the tests'. A body that is longer than known comes from a newer version: the rest is ignored. One that is shorter
is malformed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import ClassVar, TypeAlias

from fastfeed.wire.framing import ErrorCode, Frame, ProtocolError, pack_frame

# A GET asks for bytes of one chunk.
CHUNK_BYTES = 1 << 20
ERROR_TEXT_BYTES_MAX = 4096


class GetFlag(IntFlag):
    """How a GET wants to be answered."""

    BY_RING = 1  # not by a slot: a race was lost
    SLOT_WAS_BAD = 2  # the bytes of `entry` had another checksum under an unchanged word


@dataclass(frozen=True, slots=True, kw_only=True)
class Get:
    """Client: bytes [offset, offset + length) of an object of a set; they lie in one chunk."""

    TYPE: ClassVar = 0x10
    _BODY: ClassVar = struct.Struct("<IIQIIQI")

    set: int
    object: int
    offset: int
    length: int
    flags: int = 0
    entry: int = 0  # the map entry that was used, or 0
    deadline_ms: int

    def body(self) -> bytes:
        return self._BODY.pack(
            self.set, self.object, self.offset, self.length, self.flags, self.entry, self.deadline_ms
        )

    @classmethod
    def of(cls, body: memoryview) -> Get:
        """ProtocolError where the range is none of one chunk."""
        number, object_, offset, length, flags, entry, deadline_ms = cls._BODY.unpack_from(body)
        if not 1 <= length <= CHUNK_BYTES - offset % CHUNK_BYTES:
            raise ProtocolError(f"GET: {length} bytes at {offset} do not lie in one chunk of {CHUNK_BYTES}")
        return cls(set=number, object=object_, offset=offset, length=length, flags=flags, entry=entry,
                   deadline_ms=deadline_ms)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class InSlot:
    """Daemon: the bytes are in this slot, under this generation; as an entry of the map."""

    TYPE: ClassVar = 0x11
    _BODY: ClassVar = struct.Struct("<Q")

    entry: int

    def body(self) -> bytes:
        return self._BODY.pack(self.entry)

    @classmethod
    def of(cls, body: memoryview) -> InSlot:
        return cls(entry=cls._BODY.unpack_from(body)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class InRing:
    """Daemon: the bytes are in the ring from position `at` on, until a RELEASE of the same request."""

    TYPE: ClassVar = 0x12
    _BODY: ClassVar = struct.Struct("<QI")

    at: int
    length: int

    def body(self) -> bytes:
        return self._BODY.pack(self.at, self.length)

    @classmethod
    def of(cls, body: memoryview) -> InRing:
        at, length = cls._BODY.unpack_from(body)
        return cls(at=at, length=length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Client: the bytes of the IN_RING answer to this request are copied. No answer."""

    TYPE: ClassVar = 0x13

    def body(self) -> bytes:
        return b""

    @classmethod
    def of(cls, body: memoryview) -> Release:
        return cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """Daemon: the answer to any request, hot or not, that has no other. A code may be of a newer version."""

    TYPE: ClassVar = 0x1F
    _BODY: ClassVar = struct.Struct("<IH")

    code: int
    text: str

    def body(self) -> bytes:
        text = self.text.encode("utf-8", "replace")[:ERROR_TEXT_BYTES_MAX]
        return self._BODY.pack(self.code, len(text)) + text

    @classmethod
    def of(cls, body: memoryview) -> Error:
        code, text_bytes = cls._BODY.unpack_from(body)
        text = body[cls._BODY.size : cls._BODY.size + text_bytes]
        if len(text) != text_bytes:
            raise ProtocolError(f"ERROR: a text of {text_bytes} bytes in a body of {len(body)}")
        return cls(code=code, text=bytes(text).decode("utf-8", "replace"))

    @classmethod
    def because(cls, error: ProtocolError) -> Error:
        return cls(code=error.code, text=error.text)


HotMessage: TypeAlias = Get | InSlot | InRing | Release | Error
_TYPES: dict[int, type[HotMessage]] = {each.TYPE: each for each in (Get, InSlot, InRing, Release, Error)}


def pack_hot(message: HotMessage, request: int) -> bytes:
    """The packet of a message."""
    return pack_frame(message.TYPE, request, message.body())


def unpack_error(frame: Frame) -> Error:
    """The ERROR in a frame of that type."""
    message = unpack_hot(frame)
    assert isinstance(message, Error)
    return message


def unpack_hot(frame: Frame) -> HotMessage:
    """The message in a frame. ProtocolError: malformed, or unsupported where the type is none of these."""
    kind = _TYPES.get(frame.type)
    if kind is None:
        raise ProtocolError(f"no message of the data connection has type {frame.type:#x}", ErrorCode.UNSUPPORTED)
    try:
        return kind.of(frame.body)
    except struct.error as error:
        raise ProtocolError(f"{kind.__name__}: a body of {len(frame.body)} bytes is too short ({error})") from error
