"""A client of the cache daemon in plain Python: it sends what it is told, right or wrong, and shows what comes back.

Blocking. Slots and ring are read by pread and mmap, as slowly as it gets.
"""

from __future__ import annotations

import array
import mmap
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from fastfeed._native.cache import SLOT_BYTES
from fastfeed.wire import messages as m
from fastfeed.wire.framing import MESSAGE_BYTES_MAX, Frame, unpack_frame
from fastfeed.wire.hot import CHUNK_BYTES, Error, Get, HotMessage, InRing, InSlot, Release, pack_hot, unpack_hot

TIMEOUT_S = 20.0


class Received(NamedTuple):
    """A packet that came, and its descriptors."""

    frame: Frame
    descriptors: list[int]


class RawConnection:
    """One connection. Descriptors that came are closed with it."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(TIMEOUT_S)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self.descriptors: list[int] = []
        self._number = 0

    def send(self, packet: bytes, descriptors: Sequence[int] = ()) -> None:
        if descriptors:
            socket.send_fds(self.socket, [packet], list(descriptors))
        else:
            self.socket.send(packet)

    def receive(self) -> Received:
        """EOFError where the daemon has ended the connection."""
        data, ancillary, _, _ = self.socket.recvmsg(MESSAGE_BYTES_MAX, socket.CMSG_SPACE(4 * 16))
        if not data:
            raise EOFError("the daemon has ended the connection")
        found = array.array("i")
        for _, _, part in ancillary:
            found.frombytes(part[: len(part) // 4 * 4])
        self.descriptors += found
        return Received(unpack_frame(data), list(found))

    def ask(self, message: m.Message) -> tuple[m.Message, list[int]]:
        """A control message and its answer, an Error too."""
        self._number += 1
        self.send(m.pack(message, self._number))
        frame, descriptors = self.receive()
        assert frame.request == self._number
        answer = m.unpack(frame)
        while len(descriptors) < m.descriptor_count(answer):
            descriptors += self.receive().descriptors
        return answer, descriptors

    def close(self) -> None:
        self.socket.close()
        while self.descriptors:
            os.close(self.descriptors.pop())


class RawClient:
    """Both connections, and GETs by hand."""

    def __init__(self, path: Path, *, data: bool = True) -> None:
        self.path = path
        self.control = RawConnection(path)
        self.data: RawConnection | None = None
        answer, _ = self.control.ask(hello(m.Kind.CONTROL))
        assert isinstance(answer, m.Welcome), answer
        self.welcome = answer
        self._request = 0
        self.ring: mmap.mmap | None = None
        if data:
            self.attach()

    def attach(self) -> None:
        self.data = RawConnection(self.path)
        answer, descriptors = self.data.ask(hello(m.Kind.DATA, self.welcome.token))
        assert isinstance(answer, m.Welcome), answer
        self.layout = answer
        self.ring_fd, self.page_fd, self.words_fd, *self.slab_fds = descriptors
        self.ring = mmap.mmap(self.ring_fd, answer.ring_bytes, access=mmap.ACCESS_READ)

    def open_url(self, url: str, number: int = 0) -> m.Opened:
        answer, _ = self.control.ask(m.OpenUrl(set=number, url=url, deadline_ms=20_000))
        assert isinstance(answer, m.Opened), answer
        return answer

    def get(self, offset: int, length: int, *, set: int = 0, object: int = 0, flags: int = 0, entry: int = 0,
            deadline_ms: int = 20_000) -> int:
        """Send a GET; its request number."""
        assert self.data is not None
        self._request += 1
        message = Get(set=set, object=object, offset=offset, length=length, flags=flags, entry=entry,
                      deadline_ms=deadline_ms)  # fmt: skip
        self.data.send(pack_hot(message, self._request))
        return self._request

    def answer(self) -> tuple[int, HotMessage]:
        """The next answer on the data connection, whichever request it is to."""
        assert self.data is not None
        frame = self.data.receive().frame
        return frame.request, unpack_hot(frame)

    def bytes_of(self, answer: HotMessage, offset: int, length: int) -> bytes:
        """What an answer to a GET points to."""
        if isinstance(answer, InRing):
            assert self.ring is not None
            assert answer.length == length
            return self.ring[answer.at : answer.at + length]
        assert isinstance(answer, InSlot), answer
        slot = answer.entry >> 38
        for descriptor, (first, count) in zip(self.slab_fds, self.layout.slabs, strict=True):
            if first <= slot < first + count:
                return os.pread(descriptor, length, (slot - first) * SLOT_BYTES + offset % CHUNK_BYTES)
        raise AssertionError(f"slot {slot} is in no slab")

    def read(self, offset: int, length: int, **options: Any) -> bytes:
        """GET, the bytes, and RELEASE. AssertionError with the daemon's ERROR."""
        assert self.data is not None
        request = self.get(offset, length, **options)
        number, answer = self.answer()
        assert number == request
        data = self.bytes_of(answer, offset, length)
        if isinstance(answer, InRing):
            self.data.send(pack_hot(Release(), request))
        return data

    def error(self, offset: int, length: int, **options: Any) -> Error:
        """The ERROR that a GET is answered with."""
        self.get(offset, length, **options)
        _, answer = self.answer()
        assert isinstance(answer, Error), answer
        return answer

    def close(self) -> None:
        if self.ring is not None:
            self.ring.close()
        if self.data is not None:
            self.data.close()
        self.control.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def hello(kind: m.Kind, token: bytes = b"", pool: str = "") -> m.Hello:
    return m.Hello(version_min=m.VERSION_MIN, version_max=m.VERSION, kind=kind, pid=os.getpid(), token=token, pool=pool)


def header(message_type: int, length: int, request: int = 1) -> bytes:
    """A header that may contradict what follows it."""
    return struct.pack("<HHIQ", message_type, 0, length, request)
