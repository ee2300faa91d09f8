"""Who leaves the pool for whom: what the pool asks, and of whom.

A pool keeps bytes; which bytes are worth keeping is an evictor's to say. The pool tells it of every slot that was
published or emptied, so that it needs no view of the pool's own tables. Calls come from one thread, between fills;
none blocks or does I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class Held(NamedTuple):
    """Many slots and what they hold: slot i has chunk chunks[i] of the object keys[objects[i]]."""

    slots: npt.NDArray[np.int64]
    keys: Sequence[bytes]  # of these, some may be nobody's
    objects: npt.NDArray[np.int32]
    chunks: npt.NDArray[np.int32]


class Evictor(Protocol):
    """Decides about chunks, named by (key, chunk): an object's 16 bytes, and the number of the chunk in it."""

    def admits(self, key: bytes, chunk: int) -> bool:
        """Whether this chunk may have a slot now, be it a free one. False: its bytes pass through and are not kept."""
        ...

    def victim(self, key: bytes, chunk: int) -> int | None:
        """The slot to empty for this chunk, when none is free; None: all that is there must stay.

        Asking changes nothing: the pool says `removed` when it has emptied the slot, and may empty another.
        """
        ...

    def published(self, slot: int, key: bytes, chunk: int) -> None:
        """The slot holds this chunk from now on, after a fill."""
        ...

    def recovered(self, held: Held) -> None:
        """As published, for all slots that the opening of the pool found on a disk. They held nothing before."""
        ...

    def removed(self, slot: int) -> None:
        """The slot holds nothing any more, for whatever reason. A slot that held nothing is no error."""
        ...

    def used(self, key: bytes, chunk: int) -> None:
        """A reader asked the daemon for this chunk. Hits that readers find by themselves are not told."""
        ...
