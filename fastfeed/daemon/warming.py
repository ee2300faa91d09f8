"""Fetching whole sets because an operator asked: after what registered loaders need, as fast as the disks write.

A `Planner` around another one. When that has nothing to fetch, the chunks of the sets that are being warmed come, in
their order, each once: those that are here, and those that the evictor would not keep, are passed over. A chunk that
was fetched and is not here afterwards is tried once more at the end. One event loop; `settle` is called about once a
second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from fastfeed.daemon.fetch import RUN_CHUNKS_MAX, Planned, Planner
from fastfeed.daemon.objects import CachedObject
from fastfeed.daemon.sets import ObjectSet
from fastfeed.wire.hot import CHUNK_BYTES

# Planned at a time, so that a loader that comes meanwhile is not behind a long queue.
AT_ONCE_BYTES = 64 << 20
# Chunks that are looked at in one go: a millisecond or two.
LOOKED_AT_MAX = 512
# So many chunks in a row that were fetched in vain: the origin or the disks do not work.
FAILURES_MAX = 64


class Place(NamedTuple):
    """A chunk of a set."""

    object: int
    chunk: int


@dataclass(frozen=True, slots=True)
class Run:
    """Chunks of one object; implements `fetch.Planned`."""

    object: CachedObject
    first_chunk: int
    count: int


class Keeps(Protocol):
    """What is asked about slots (keeper.py)."""

    def has(self, key: bytes, chunk: int) -> bool:
        """Whether the chunk is in a slot, or about to be in one."""
        ...

    def find(self, key: bytes, chunk: int) -> object | None:
        """The slot that the chunk is in."""
        ...

    def arriving(self, key: bytes, chunk: int) -> memoryview | None:
        """The bytes of a chunk that is being written."""
        ...

    @property
    def is_behind(self) -> bool:
        """Whether a disk has many writes waiting."""
        ...


@dataclass(slots=True, eq=False)
class Warm:
    """One set that is being warmed, or was."""

    opened: ObjectSet
    url: str
    snapshot: int | None
    # What is to be looked at, the next first: of each object all chunks, then single ones again.
    _places: Iterator[Place] = field(init=False)
    _pushed_back: list[Place] = field(default_factory=list)
    _outstanding: dict[Place, None] = field(default_factory=dict)
    _again: list[Place] = field(default_factory=list)
    _is_second_pass: bool = False
    running: bool = True
    fetched_bytes: int = 0
    refused_chunks: int = 0
    here_chunks: int = 0  # of those that were looked at: in slots, or on their way
    failures: int = 0
    error: str = ""

    def __post_init__(self) -> None:
        counts = self.opened.chunk_counts
        self._places = (Place(number, chunk) for number in range(len(counts)) for chunk in range(counts[number]))

    def stop(self, why: str) -> None:
        """End it before its end."""
        self.running, self.error = False, why
        self._outstanding.clear()

    def next_run(
        self, has: Callable[[bytes, int], bool], keeps: Callable[[bytes, int], bool], capacity_chunks: int
    ) -> Run | None:
        """The next chunks to fetch, next to each other; None: none was found in LOOKED_AT_MAX. Of a set that is larger
        than the pool no more than fit: its end shall not replace its beginning."""
        run: list[Place] = []
        for _ in range(LOOKED_AT_MAX):
            place = self._pushed_back.pop() if self._pushed_back else next(self._places, None)
            if place is None:
                break
            key = self.opened.key(place.object)
            if run and (place != Place(run[0].object, run[-1].chunk + 1) or len(run) == RUN_CHUNKS_MAX):
                self._pushed_back.append(place)
                break
            if has(key, place.chunk):
                self.here_chunks += 1
                continue
            if self.here_chunks + len(run) >= capacity_chunks or not keeps(key, place.chunk):
                self.refused_chunks += 1
                continue
            run.append(place)
        if not run:
            return None
        self.here_chunks += len(run)
        self._outstanding.update(dict.fromkeys(run))
        return Run(self.opened.object(run[0].object), run[0].chunk, len(run))

    def settle(
        self,
        is_here: Callable[[bytes, int], bool],
        is_coming: Callable[[bytes, int], bool],
        last_trouble: Callable[[], str],
    ) -> None:
        """See what became of the chunks that were to be fetched; end it where none is left."""
        for place in list(self._outstanding):
            key = self.opened.key(place.object)
            if is_here(key, place.chunk):
                self.fetched_bytes += self.opened.object(place.object).chunk_bytes(place.chunk)
                self.failures = 0
            elif is_coming(key, place.chunk):
                continue
            else:
                self.failures += 1
                self.here_chunks -= 1
                if not self._is_second_pass:
                    self._again.append(place)
            del self._outstanding[place]
        if self.failures >= FAILURES_MAX:
            return self.stop(last_trouble())
        if self._outstanding or self._pushed_back:
            return None
        following = next(self._places, None)
        if following is not None:
            self._pushed_back.append(following)
        elif self._again:
            self._places, self._again, self._is_second_pass = iter(self._again), [], True
        else:
            self.running = False
            self.error = last_trouble() if self.failures else ""
        return None


class Warming:
    """The planner of a pool: `inner` first, then what is being warmed."""

    def __init__(
        self,
        inner: Planner,
        keeper: Keeps,
        *,
        judge: Callable[[bytes, int], bool],
        capacity_chunks: Callable[[], int],
        is_coming: Callable[[bytes, int], bool],
        last_trouble: Callable[[], str],
    ) -> None:
        """judge: whether the evictor would keep a chunk. last_trouble: what went wrong last, for people."""
        self._inner, self._keeper, self._judge = inner, keeper, judge
        self._capacity_chunks = capacity_chunks
        self._is_coming, self._last_trouble = is_coming, last_trouble
        self._warms: dict[tuple[str, int | None], Warm] = {}

    @property
    def is_active(self) -> bool:
        return any(warm.running for warm in self._warms.values())

    def start(self, opened: ObjectSet, url: str, snapshot: int | None) -> Warm:
        """Warm a set, or join whoever does. url, snapshot: what to call it; None: it is a file."""
        known = self._warms.get((url, snapshot))
        if known is None or not known.running or known.opened.keys != opened.keys:
            known = self._warms[url, snapshot] = Warm(opened, url, snapshot)
        return known

    def known(self, url: str, snapshot: int | None) -> Warm | None:
        """The work on a set that goes on, or was the last. None as snapshot: any."""
        found = [each for each in self._warms.values() if each.url == url and snapshot in (None, each.snapshot)]
        return found[-1] if found else None

    def settle(self) -> None:
        """See how far the work is. What has ended is remembered until the set is warmed again."""
        for warm in self._warms.values():
            if warm.running:
                warm.settle(
                    lambda key, chunk: self._keeper.find(key, chunk) is not None,
                    # A chunk that was fetched and is still being written is on its way, too.
                    lambda key, chunk: self._is_coming(key, chunk) or self._keeper.arriving(key, chunk) is not None,
                    self._last_trouble,
                )

    def next_fetches(self, budget_bytes: int, is_open: Callable[[CachedObject], bool]) -> Iterable[Planned]:
        """See fetch.Planner."""
        left = budget_bytes
        for planned in self._inner.next_fetches(budget_bytes, is_open):
            left -= planned.count * CHUNK_BYTES
            yield planned
        left = min(left, AT_ONCE_BYTES)
        for warm in self._warms.values():
            if len(warm.opened) == 0 or not is_open(warm.opened.object(0)):
                continue
            while warm.running and left > 0 and not self._keeper.is_behind:
                run = warm.next_run(self._keeper.has, self._judge, self._capacity_chunks())
                if run is None:
                    break
                left -= run.count * CHUNK_BYTES
                yield run

    def is_exact(self, key: bytes, chunk: int) -> bool:
        """See fetch.Planner."""
        return self._inner.is_exact(key, chunk)
