"""A node's cache in simulated time: the daemon's own jobs and evictor, a pool that is a dict, an origin that counts.

Readers take rows as the real ones do: a chunk that is in a slot costs nothing; one that is not is fetched whole if the
evictor admits it, else the row's exact bytes are. Fetches take no time. What is measured is what the policy decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastfeed.cache.future import CHUNK_BYTES, Geometry, OrderShape, geometry_of
from fastfeed.cache.policy_evictor import FutureEvictor
from fastfeed.daemon.jobs import Jobs, Registration
from fastfeed.order import ORDER_VERSION, Order, ShuffleMode
from fastfeed.wire.page import MAGIC
from fastfeed.wire.recipe import Recipe


@dataclass(frozen=True)
class FakeObject:
    """An object of a set."""

    key: bytes
    size_bytes: int


@dataclass
class Data:
    """Rows of equal size in objects of equal size, none of which is cut by an object's end."""

    blocks: int
    block_rows: int = 8
    row_bytes: int = 512 << 10
    object_blocks: int = 64
    header_bytes: int = 4096  # as in a shard, so that blocks share chunks with their neighbours
    name: str = "data"

    @property
    def rows(self) -> int:
        return self.blocks * self.block_rows

    @property
    def data_bytes(self) -> int:
        return self.rows * self.row_bytes

    @property
    def block_bytes(self) -> int:
        return self.block_rows * self.row_bytes

    @property
    def object_bytes(self) -> int:
        return self.header_bytes + self.object_blocks * self.block_bytes

    @property
    def object_chunks(self) -> int:
        return -(-self.object_bytes // CHUNK_BYTES)

    def objects(self) -> list[FakeObject]:
        count = -(-self.blocks // self.object_blocks)
        return [FakeObject(f"{self.name}{number}".encode().ljust(16, b"."), self.object_bytes)
                for number in range(count)]  # fmt: skip

    def geometry(self, keys: Sequence[bytes]) -> Geometry:
        block = np.arange(self.blocks, dtype=np.int64)
        starts = (block // self.object_blocks * self.object_chunks * CHUNK_BYTES + self.header_bytes
                  + block % self.object_blocks * self.block_bytes)  # fmt: skip
        return geometry_of(keys, [self.object_bytes] * len(keys), starts.astype(np.uint64),
                           (starts + self.block_bytes).astype(np.uint64))  # fmt: skip

    def pieces(self, row: int) -> list[tuple[int, int, int]]:
        """(object, chunk, bytes) that a row lies in."""
        block, inside = divmod(row, self.block_rows)
        which = block // self.object_blocks
        at = self.header_bytes + block % self.object_blocks * self.block_bytes + inside * self.row_bytes
        end = at + self.row_bytes
        found = []
        while at < end:
            stop = min(end, (at // CHUNK_BYTES + 1) * CHUNK_BYTES)
            found.append((which, at // CHUNK_BYTES, stop - at))
            at = stop
        return found


@dataclass
class Reader:
    """One loader: `rate` rows a second of simulated time."""

    data: Data
    recipe: Recipe
    objects: list[FakeObject]
    rate: float
    page: SimpleNamespace
    number: int = 0
    epoch: int = 0
    position: int = 0
    stopped: bool = False
    read_bytes: int = 0
    origin_bytes: int = 0
    _left: float = 0.0
    _order: tuple[int, Order] | None = field(default=None, repr=False)

    def order(self) -> Order:
        if self._order is None or self._order[0] != self.epoch:
            options = self.recipe.order
            shuffle = options["shuffle"] if options["shuffle"] != "none" else False
            self._order = self.epoch, Order(self.data.rows, seed=self.recipe.seed, epoch=self.epoch, shuffle=shuffle,
                                            shuffle_window=options["shuffle_window"] or 1,
                                            block_rows=options["block_rows"] or 1)  # fmt: skip
        return self._order[1]


class World:
    """One pool of `slots` slots, its jobs, and time. ahead_bytes: of the prefetch; 0: none."""

    def __init__(self, slots: int, ahead_bytes: int = 8 << 20) -> None:
        self.now_s = 1000.0
        self.evictor = FutureEvictor(slots, clock=lambda: self.now_s, cpu_clock=lambda: 0.0)
        self._data: dict[bytes, Data] = {}
        self._sizes: dict[bytes, int] = {}
        self.jobs: Jobs[FakeObject] = Jobs(self.evictor, ahead_bytes_max=ahead_bytes, geometry_of=self._geometry,
                                           clock=lambda: self.now_s)  # fmt: skip
        self.slots = slots
        self.held: dict[tuple[bytes, int], int] = {}  # -> slot
        self._names: dict[int, tuple[bytes, int]] = {}
        self._free = list(range(slots))[::-1]
        self.readers: list[Reader] = []
        self.writes = 0
        self.evictions: list[tuple[bytes, int]] = []

    def _geometry(self, opened: Any, keys: Sequence[bytes], recipe: Recipe, order: OrderShape) -> Geometry:
        return self._data[keys[0]].geometry(keys)

    def join(self, data: Data, *, seed: int = 0, window: int | None = 16, epoch: int = 0, position: int = 0,
             rate: float = 100.0, job: str = "", rank: int = 0, world_size: int = 1) -> Reader:  # fmt: skip
        """Another loader. window: None: in order."""
        order = {"version": ORDER_VERSION, "shuffle": "none" if window is None else "window",
                 "shuffle_window": window or 0, "block_rows": 0 if window is None else data.block_rows}  # fmt: skip
        recipe = Recipe(kind="order", url=f"mem://{data.name}", snapshot=1, content=data.name, rows=data.rows,
                        order=order, seed=seed, epoch=epoch, position=position, job=job or f"{data.name}-{seed}",
                        rank=rank, world_size=world_size)  # fmt: skip
        objects = data.objects()
        self._sizes.update((each.key, each.size_bytes) for each in objects)
        self._data[objects[0].key] = data
        reader = Reader(data, recipe, objects, rate, self._page(epoch, position), epoch=epoch, position=position)
        self.readers.append(reader)
        self.enter(reader)
        return reader

    def enter(self, reader: Reader) -> None:
        """Register it, again if it had left."""
        made = self.jobs.register(id(reader), reader.recipe, SimpleNamespace(manifest=_manifest(reader.data)),  # type: ignore[arg-type]
                                  reader.objects, lambda: reader.page)  # type: ignore[arg-type, return-value]
        reader.number = made.number
        reader.page.registration = made.number

    def register(self, reader: Reader, recipe: Recipe, *, is_dataset: bool = True) -> Registration[FakeObject]:
        """Another registration over the same objects and the same page."""
        rows = SimpleNamespace(manifest=_manifest(reader.data)) if is_dataset else None
        return self.jobs.register(1, recipe, rows, reader.objects, lambda: reader.page)  # type: ignore[arg-type, return-value]

    def leave(self, reader: Reader) -> None:
        """Its loader has ended."""
        self.jobs.unregister(reader.number)
        self.readers.remove(reader)

    def run(self, seconds: float, tick_s: float = 1.0) -> None:
        """Let time pass."""
        until = self.now_s + seconds
        while self.now_s < until - 1e-9:
            self.jobs.tick()
            think = self.jobs.thinking()
            if think is not None:
                self.jobs.decide(think())
            for run in self.jobs.next_fetches(64 << 20):
                for chunk in range(run.first_chunk, run.first_chunk + run.count):
                    self._fetch(run.object.key, chunk, None)
            for reader in self.readers:
                if not reader.stopped:
                    self._advance(reader, tick_s)
            self.now_s += tick_s

    def drop(self, key: bytes, chunk: int) -> None:
        """Its slot is lost."""
        slot = self.held.pop((key, chunk))
        del self._names[slot]
        self._free.append(slot)
        self.evictor.removed(slot)

    def hit_ratio(self, since: tuple[int, int] = (0, 0)) -> float:
        """Of the bytes that were read, those that came from no origin. since: `totals()` of an earlier moment."""
        read, origin = self.totals()
        return 1 - (origin - since[1]) / (read - since[0])

    def totals(self) -> tuple[int, int]:
        """Bytes that readers read, and bytes that the origin gave."""
        return sum(reader.read_bytes for reader in self.readers), self.origin_bytes

    origin_bytes = 0

    def _page(self, epoch: int, position: int) -> SimpleNamespace:
        return SimpleNamespace(is_page=MAGIC is not None, registration=0, epoch=epoch, position=position, steps=0,
                               exposed_wait_us=0)  # fmt: skip

    def _advance(self, reader: Reader, tick_s: float) -> None:
        reader._left += reader.rate * tick_s
        while reader._left >= 1:
            take = min(int(reader._left), reader.data.rows - reader.position)
            for row in reader.order().rows(reader.position, reader.position + take).tolist():
                self._read(reader, row)
            reader._left -= take
            reader.position += take
            if reader.position == reader.data.rows:
                reader.epoch, reader.position = reader.epoch + 1, 0
        reader.page.epoch, reader.page.position = reader.epoch, reader.position
        reader.page.steps += 1

    def _read(self, reader: Reader, row: int) -> None:
        for which, chunk, count in reader.data.pieces(row):
            reader.read_bytes += count
            if (reader.objects[which].key, chunk) not in self.held:
                reader.origin_bytes += self._fetch(reader.objects[which].key, chunk, count)

    def _fetch(self, key: bytes, chunk: int, exact_bytes: int | None) -> int:
        """The whole chunk into a slot, or exact bytes past it. Returns what the origin gave."""
        self.evictor.used(key, chunk)
        slot = self._slot(key, chunk) if self.evictor.admits(key, chunk) else None
        if slot is None:
            given = exact_bytes or 0
        else:
            given = min(CHUNK_BYTES, self._sizes[key] - chunk * CHUNK_BYTES)
            self.held[key, chunk] = slot
            self._names[slot] = key, chunk
            self.evictor.published(slot, key, chunk)
            self.writes += 1
        self.origin_bytes += given
        return given

    def _slot(self, key: bytes, chunk: int) -> int | None:
        if self._free:
            return self._free.pop()
        slot = self.evictor.victim(key, chunk)
        if slot is not None:
            name = self._names.pop(slot)
            del self.held[name]
            self.evictor.removed(slot)
            self.evictions.append(name)
        return slot


def _manifest(data: Data) -> SimpleNamespace:
    return SimpleNamespace(block_rows=data.block_rows, rows=data.rows)


__all__ = ["Data", "FakeObject", "Geometry", "OrderShape", "Reader", "ShuffleMode", "World"]
