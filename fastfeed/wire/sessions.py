"""The sessions of this process: made when first asked for, ended with the process, not inherited by forks."""

from __future__ import annotations

import atexit
import os
import threading

from fastfeed.wire.attach import place_of
from fastfeed.wire.place import Place
from fastfeed.wire.private import PrivateDaemons
from fastfeed.wire.session import Session


class Sessions:
    """One session a place. Thread-safe."""

    def __init__(self) -> None:
        # Held for dictionary work only, so that a fork does not find it taken for long; a child has a new one.
        self._lock = threading.Lock()
        self._by_place: dict[Place, Session] = {}
        self.private = PrivateDaemons()

    def place_of(self, cache: str | os.PathLike[str]) -> Place:
        """What `cache="auto" | "off" | "/a/socket"` means in this process."""
        with self._lock:
            return place_of(cache, os.environ, self.private)

    def at(self, place: Place) -> Session:
        """The session with the daemon at `place`. Nothing is connected yet."""
        with self._lock:
            if place not in self._by_place:
                self._by_place[place] = Session(place, self.private)
            return self._by_place[place]

    def close(self) -> None:
        """End all sessions, and the private daemons of this process. New ones may be made."""
        with self._lock:
            sessions, self._by_place = list(self._by_place.values()), {}
        for session in sessions:
            session.close()
        self.private.close()

    def forked(self) -> None:
        """In a forked child: forget what is the parent's."""
        self._lock = threading.Lock()
        for session in self._by_place.values():
            session.forget()
        self._by_place = {}
        self.private.forked()


_OURS = Sessions()
place_for = _OURS.place_of
session_at = _OURS.at
close_sessions = _OURS.close
os.register_at_fork(after_in_child=_OURS.forked)
# Before the interpreter takes apart what the watching threads need.
atexit.register(_OURS.close)
