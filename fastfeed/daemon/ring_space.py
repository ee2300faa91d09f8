"""Which parts of a connection's ring are free. Pure book-keeping; the bytes are csrc/cache's."""

from __future__ import annotations

from bisect import bisect_left

# Answers begin at a line of the processors' caches, so that two of them never share one.
LINE_BYTES = 64


class RingSpace:
    """The next free part that is large enough, from where the last one was taken. Whoever answers keeps (at, length)
    until it is released; a ring is one client's, so only its own client suffers from what it does not release."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        # Free parts, sorted, never touching: where each begins, and its length.
        self._starts: list[int] = [0] if size_bytes else []
        self._sizes: dict[int, int] = {0: size_bytes} if size_bytes else {}
        self._next = 0
        self.taken_bytes = 0

    def take(self, length: int) -> int | None:
        """The position of `length` free bytes, which are the caller's now; None: there is no room at present."""
        needed = _lines(length)
        first = bisect_left(self._starts, self._next)
        for at in self._starts[first:] + self._starts[:first]:
            size = self._sizes[at]
            if size >= needed:
                place = bisect_left(self._starts, at)
                del self._sizes[at]
                if size == needed:
                    del self._starts[place]
                else:
                    self._starts[place] = at + needed
                    self._sizes[at + needed] = size - needed
                self.taken_bytes += needed
                self._next = at + needed
                return at
        return None

    def give_back(self, at: int, length: int) -> None:
        """These bytes, from `take`, are free again."""
        size = _lines(length)
        self.taken_bytes -= size
        place = bisect_left(self._starts, at)
        if place < len(self._starts) and self._starts[place] == at + size:
            size += self._sizes.pop(self._starts.pop(place))
        if place > 0 and self._starts[place - 1] + self._sizes[self._starts[place - 1]] == at:
            self._sizes[self._starts[place - 1]] += size
            return
        self._starts.insert(place, at)
        self._sizes[at] = size


def _lines(length: int) -> int:
    return -(-length // LINE_BYTES) * LINE_BYTES
