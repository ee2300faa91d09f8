"""Control connections beside a session's own, for requests that need nothing of the session: listings, files, heads.

The session's own connection answers one request at a time, and what an origin has to answer may take minutes: a loader
that registers, or a set that is opened, would wait as long. One connection is kept for the next request; who finds it
in use has one made, which is closed afterwards. Thread-safe; of one process.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from fastfeed.wire.connection import Connection, ConnectionLost

T = TypeVar("T")

# One process seldom has two such requests at a time; each connection is a session of the daemon's.
KEPT_MAX = 1
RETRY_S = 0.2


class Beside:
    """connect: makes a control connection, after its handshake."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        # Taken and given back whole: a deque's pop and append need no lock.
        self._idle: deque[Connection] = deque()
        self._is_closed = False

    def ask(self, act: Callable[[Connection], T], timeout_s: float) -> T:
        """What `act` gives on a connection; again on another one where that ended, until it takes too long."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                return self._on_one(act)
            except ConnectionLost:
                if self._is_closed or time.monotonic() > deadline_s:
                    raise
            time.sleep(RETRY_S)

    def close(self) -> None:
        """End what is kept; what is in use ends with its request. Idempotent."""
        self._is_closed = True
        while (kept := self._take()) is not None:
            kept.close()

    def _on_one(self, act: Callable[[Connection], T]) -> T:
        connection = self._take() or self._connect()
        try:
            result = act(connection)
        except BaseException:
            # Usable still, but for a lost one; yet nobody hurries after an error.
            connection.close()
            raise
        if self._is_closed or len(self._idle) >= KEPT_MAX:
            connection.close()
        else:
            self._idle.append(connection)
        return result

    def _take(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None
