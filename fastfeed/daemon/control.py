"""The control connection of one client: requests in, answers out, one after the other in the order in which they came.

What a request means is its handler's; here are order, deadlines, flow control, and that each gets exactly one answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from fastfeed.daemon.packets import PacketConnection
from fastfeed.errors import FastfeedError
from fastfeed.wire.answers import answer_to
from fastfeed.wire.framing import UNASKED, ProtocolError, unpack_frame
from fastfeed.wire.hot import Error
from fastfeed.wire.messages import DEADLINE_MS_MAX, Message, More, pack, portions, unpack

log = logging.getLogger("fastfeed.daemon")

# Control requests that a client may have sent ahead. Ours sends the next one after the answer.
REQUESTS_AHEAD_MAX = 32
# Requests that name no deadline are answered from what the daemon has at hand.
DEADLINE_S = 60.0


class Outcome(NamedTuple):
    """An answer, and descriptors for it, which are taken."""

    message: Message
    descriptors: list[int]

    @classmethod
    def of(cls, message: Message) -> Outcome:
        return cls(message, [])


Handler = Callable[[Message], Awaitable[Outcome]]


class ControlConnection:
    """Give its `on_packets` to a PacketConnection, and that to `connect`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, handler: Handler) -> None:
        self._loop, self._handler = loop, handler
        self._waiting: deque[bytes] = deque()
        self._task: asyncio.Task[None] | None = None
        self._connection: PacketConnection | None = None

    def connect(self, connection: PacketConnection) -> None:
        """Answers go here."""
        self._connection = connection

    def on_packets(self, packets: list[bytes]) -> None:
        """More requests."""
        self._waiting.extend(packets)
        if self._task is None:
            self._task = self._loop.create_task(self._answer_all())
        self._update_pause()

    def say(self, message: Message) -> None:
        """Send what nobody asked for."""
        if self._connection is not None:
            self._connection.send(pack(message, UNASKED))

    def close(self) -> None:
        """Stop answering."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    async def _answer_all(self) -> None:
        try:
            while self._waiting:
                await self._answer(self._waiting.popleft())
                self._update_pause()
                # Others have their turn between any two requests of one client.
                await asyncio.sleep(0)
        finally:
            self._task = None

    async def _answer(self, packet: bytes) -> None:
        request = UNASKED
        try:
            frame = unpack_frame(packet)
            request = frame.request
            outcome = await self._handled(unpack(frame))
        except (FastfeedError, OSError) as error:
            outcome = Outcome.of(answer_to(error))
        except Exception as error:  # every request has an answer, and those behind it their turn, whatever went wrong
            log.exception("a request of a client failed")
            outcome = Outcome.of(answer_to(error))
        self._send(outcome, request)

    async def _handled(self, message: Message) -> Outcome:
        deadline_ms = getattr(message, "deadline_ms", None)
        timeout_s = DEADLINE_S if deadline_ms is None else min(deadline_ms, DEADLINE_MS_MAX) / 1000
        try:
            async with asyncio.timeout(timeout_s):
                return await self._handler(message)
        except TimeoutError as error:
            raise TimeoutError(
                f"{type(message).__name__}: no answer in {timeout_s:g} s. See `fastfeed cache status`."
            ) from error

    def _send(self, outcome: Outcome, request: int) -> None:
        if self._connection is None:
            return
        first, *rest = portions(outcome.descriptors)
        try:
            packet = pack(outcome.message, request)
        except ProtocolError as error:
            packet, first, rest = pack(Error.because(error), request), [], []
        self._connection.send(packet, first)
        for more in rest:
            self._connection.send(pack(More(), request), more)

    def _update_pause(self) -> None:
        if self._connection is not None:
            self._connection.pause(len(self._waiting) >= REQUESTS_AHEAD_MAX)


def unsupported(message: Any) -> ProtocolError:
    """For a message that only the other side sends."""
    return ProtocolError(f"{type(message).__name__} is no request to the daemon")
