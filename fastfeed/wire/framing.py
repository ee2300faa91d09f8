"""One message a packet: a header of 16 bytes and a body (docs/wire.md, section 2).

Pure: bytes in, values out. The socket is SOCK_SEQPACKET, so a packet is a message, whole, with the descriptors that
belong to it. Everything is little endian. Whoever receives checks lengths here, and values where they are used.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from fastfeed.errors import FastfeedError

# u16 type, u16 flags (sent as 0, ignored), u32 body length, u64 request id.
_HEADER = struct.Struct("<HHIQ")
HEADER_BYTES = _HEADER.size
# A packet. 64 KiB fit the default buffers of a Unix socket several times, and no message needs more: what grows
# (listings, maps, long answers) goes as a sealed memfd.
MESSAGE_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = MESSAGE_BYTES_MAX - HEADER_BYTES
# Descriptors in one packet. The kernel takes 253; a process with a low limit of open files is better asked in portions.
DESCRIPTORS_MAX = 16
# Requests that nobody sent: messages of the daemon's own.
UNASKED = 0
REQUEST_MAX = (1 << 64) - 1


class ErrorCode(IntEnum):
    """What an ERROR message says beside its text. Numbers are for ever."""

    UNSUPPORTED = 1  # a message or feature that the other side does not know
    MALFORMED = 2  # a message that is none
    DENIED = 3  # the pool is not this user's, or does not have this origin
    NOT_FOUND = 4
    ORIGIN = 5  # the origin failed after all retries
    ORIGIN_CHANGED = 6  # the object is another one than when it was opened
    CORRUPT = 7  # the bytes are not those that were written
    CACHE_FULL = 8
    TIMEOUT = 9  # the request's own deadline
    DRAINING = 10  # the daemon is leaving: attach again
    INTERNAL = 11
    CONFIG = 12  # the request or the daemon's configuration makes no sense


class ProtocolError(FastfeedError):
    """A packet that is no message, or one that this side does not know. `code` is what to answer."""

    def __init__(self, text: str, code: ErrorCode = ErrorCode.MALFORMED) -> None:
        super().__init__(text, code)  # both, so that it pickles
        self.text, self.code = text, code

    def __str__(self) -> str:
        return self.text


class Frame(NamedTuple):
    """A packet's parts. `body` borrows the packet."""

    type: int
    request: int
    body: memoryview


def pack_frame(message_type: int, request: int, body: bytes = b"") -> bytes:
    """The packet of a message. ProtocolError where it would be too long for one."""
    if len(body) > BODY_BYTES_MAX:
        raise ProtocolError(f"a message of type {message_type:#x} has {len(body)} bytes, a packet {BODY_BYTES_MAX}")
    return _HEADER.pack(message_type, 0, len(body), request) + body


def unpack_frame(packet: bytes | bytearray | memoryview) -> Frame:
    """The parts of a packet. ProtocolError where its length contradicts itself."""
    view = memoryview(packet).toreadonly()
    if not HEADER_BYTES <= len(view) <= MESSAGE_BYTES_MAX:
        raise ProtocolError(f"a packet of {len(view)} bytes; a message has {HEADER_BYTES} to {MESSAGE_BYTES_MAX}")
    message_type, _, body_bytes, request = _HEADER.unpack_from(view)
    if body_bytes != len(view) - HEADER_BYTES:
        raise ProtocolError(f"a packet of {len(view)} bytes says that its body has {body_bytes}")
    return Frame(message_type, request, view[HEADER_BYTES:])
