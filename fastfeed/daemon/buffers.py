"""How much memory holds bytes between origins, disks and rings. Pure book-keeping, for the loop's thread."""

from __future__ import annotations

from collections.abc import Callable


class Buffers:
    """Counts bytes against a limit. `on_room` is called when some were given back."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._on_room: list[Callable[[], None]] = []

    def call_on_room(self, callback: Callable[[], None]) -> None:
        """Call it whenever there may be room again."""
        self._on_room.append(callback)

    def take(self, size_bytes: int, *, share: float = 1.0) -> bool:
        """Count so many bytes, unless that would pass this share of the limit. With nothing in use anything goes: what
        is larger than the limit must get through, too."""
        if self.used_bytes and self.used_bytes + size_bytes > self.limit_bytes * share:
            return False
        self.used_bytes += size_bytes
        return True

    def give_back(self, size_bytes: int) -> None:
        """These bytes are free."""
        self.used_bytes -= size_bytes
        for callback in self._on_room:
            callback()
