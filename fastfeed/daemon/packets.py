"""One connection of a client, on the event loop: packets in, packets with descriptors out, bounded both ways.

In: a packet is read only while its reader wants one, so a client whose requests are not answered yet fills its own
socket's buffer and no memory of ours. Out: what the socket does not take waits here, up to a limit; while more than
half of its bytes, or UNSENT_DESCRIPTORS_MAX descriptors, wait nothing is read, and a client that takes nothing for
SEND_STALL_S is gone. Descriptors that a client
sends are never received: the kernel drops them with the packet's ancillary data.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from fastfeed.wire.framing import MESSAGE_BYTES_MAX

# Answers that wait for a client's socket. The longest is 64 KiB; a client reads while it waits for answers, so more
# than a few only pile up where it has stopped.
UNSENT_BYTES_MAX = 1 << 20
# Descriptors of answers that wait: each is one of the daemon's own, of which it has a limited number for everybody.
# Twice what the largest answer has.
UNSENT_DESCRIPTORS_MAX = 32
# A client that takes no answer for so long is stopped or broken. A debugger at a breakpoint makes it attach again.
SEND_STALL_S = 60.0
# Packets that one wake-up takes from one client, before others have their turn.
PACKETS_PER_TURN = 32


class _Unsent(NamedTuple):
    packet: bytes
    descriptors: list[int]  # ours


class PacketConnection:
    """Owns the socket. `on_packets` gets the packets of a turn; b"" ends the connection, after which `on_end` is
    called once, from the loop. Everything is called from the loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connected: socket.socket,
        on_packets: Callable[[list[bytes]], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._loop, self._socket = loop, connected
        self._on_packets, self._on_end = on_packets, on_end
        self._unsent: deque[_Unsent] = deque()
        self._unsent_bytes = self._unsent_descriptors = 0
        self._stalled_since_s: float | None = None
        self._is_paused = self._is_reading = self._is_closed = False
        connected.setblocking(False)

    def start(self) -> None:
        """Begin to read."""
        self._update_reading()

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def is_congested(self) -> bool:
        """Whether the client does not take its answers."""
        return self._unsent_bytes > UNSENT_BYTES_MAX // 2 or self._unsent_descriptors >= UNSENT_DESCRIPTORS_MAX

    def pause(self, paused: bool) -> None:
        """Whether packets are left in the socket for now."""
        self._is_paused = paused
        self._update_reading()

    def send(self, packet: bytes, descriptors: list[int] | None = None) -> None:
        """Send, or keep for later. The descriptors are taken: they are closed once they are sent, or cannot be."""
        unsent = _Unsent(packet, descriptors or [])
        if self._is_closed or (not self._unsent and self._try(unsent)):
            _close(unsent)
            return
        self._unsent.append(unsent)
        self._unsent_bytes += len(packet)
        self._unsent_descriptors += len(unsent.descriptors)
        if self._unsent_bytes > UNSENT_BYTES_MAX:
            self._end(f"{self._unsent_bytes} bytes of answers wait for it")
            return
        if self._stalled_since_s is None:
            self._stalled_since_s = time.monotonic()
            self._loop.add_writer(self._socket, self._write)
        self._update_reading()

    def check(self, now_s: float) -> None:
        """End the connection of a client that takes nothing. Called from time to time."""
        if self._stalled_since_s is not None and now_s - self._stalled_since_s > SEND_STALL_S:
            self._end(f"it has taken no answer for {SEND_STALL_S:.0f} s")

    def close(self) -> None:
        """Idempotent. `on_end` is not called."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._is_reading:
            self._loop.remove_reader(self._socket)
        if self._stalled_since_s is not None:
            self._loop.remove_writer(self._socket)
        while self._unsent:
            _close(self._unsent.popleft())
        self._socket.close()

    def _end(self, why: str) -> None:
        if not self._is_closed:
            self.close()
            self._on_end(why)

    def _read(self) -> None:
        packets = []
        for _ in range(PACKETS_PER_TURN):
            try:
                packet = self._socket.recv(MESSAGE_BYTES_MAX + 1)
            except BlockingIOError:
                break
            except OSError as error:
                packet = b""
                reason = f"{error.strerror}"
            else:
                reason = "it has ended"
            if not packet:
                # What came before the end is of no use any more: nobody reads its answers.
                self._end(reason)
                return
            packets.append(packet)
        if packets:
            self._on_packets(packets)

    def _write(self) -> None:
        while self._unsent:
            if not self._try(self._unsent[0]):
                return
            sent = self._unsent.popleft()
            self._unsent_bytes -= len(sent.packet)
            self._unsent_descriptors -= len(sent.descriptors)
            _close(sent)
            self._stalled_since_s = time.monotonic()
        self._loop.remove_writer(self._socket)
        self._stalled_since_s = None
        self._update_reading()

    def _try(self, unsent: _Unsent) -> bool:
        """Whether it is sent. Ends the connection where it cannot be."""
        try:
            if unsent.descriptors:
                socket.send_fds(self._socket, [unsent.packet], unsent.descriptors)
            else:
                self._socket.send(unsent.packet)
        except BlockingIOError:
            return False
        except OSError as error:
            self._loop.call_soon(self._end, f"{error.strerror}")
            return False
        return True

    def _update_reading(self) -> None:
        wanted = not self._is_closed and not self._is_paused and not self.is_congested
        if wanted == self._is_reading or self._is_closed:
            return
        self._is_reading = wanted
        if wanted:
            self._loop.add_reader(self._socket, self._read)
        else:
            self._loop.remove_reader(self._socket)


def _close(unsent: _Unsent) -> None:
    while unsent.descriptors:
        os.close(unsent.descriptors.pop())
