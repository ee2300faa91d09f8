"""Everything of one pool in one place: its slots, origins, sets, fetches and the jobs whose future it knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastfeed.cache.descriptors import ClientFiles
from fastfeed.cache.opening import Machine
from fastfeed.cache.options import DiskOptions, HealthOptions, PoolOptions
from fastfeed.cache.policy_evictor import FutureEvictor, slots_of_bytes
from fastfeed.cache.pool import Pool
from fastfeed.daemon.buffers import Buffers
from fastfeed.daemon.catalog import FOLDER as CATALOG_FOLDER
from fastfeed.daemon.catalog import Catalog, Entry
from fastfeed.daemon.config import Config, PoolConfig
from fastfeed.daemon.counters import FetchCounters
from fastfeed.daemon.disk_threads import DiskThread
from fastfeed.daemon.fetch import Fetcher
from fastfeed.daemon.files import Files
from fastfeed.daemon.jobs import Jobs, report_of
from fastfeed.daemon.keeper import Keeper
from fastfeed.daemon.objects import CachedObject
from fastfeed.daemon.report import ReaderCounts
from fastfeed.daemon.sets import Objects, ObjectSet, ShardSet
from fastfeed.daemon.sources import OpenOrigin, Sources
from fastfeed.daemon.warming import Warming
from fastfeed.storage.origins import open_origin
from fastfeed.wire.page import PageView
from fastfeed.wire.recipe import Recipe

if TYPE_CHECKING:
    from fastfeed.daemon.session import Session

# Of the buffers, what may wait for disks; the rest is for what comes from origins.
HELD_SHARE = 0.5
U64_MAX = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class World:
    """What a daemon takes from outside: origins, and the machine's disks and clocks. Tests give others."""

    open_origin: OpenOrigin = open_origin
    machine: Machine = field(default_factory=Machine)


class PoolService:
    """For one event loop. Opening the pool blocks: recovery reads its slot tables."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        pool_config: PoolConfig,
        buffers: Buffers,
        on_trouble: Callable[[str, str], None],
        on_registered: Callable[[], None],
        world: World,
    ) -> None:
        """on_registered: called when a loader has registered, as `needs_looks` may have changed."""
        self.name = pool_config.name
        self._loop, self._config, self._pool_config = loop, config, pool_config
        self.counters = FetchCounters()
        self.evictor = FutureEvictor(slots_of_bytes(pool_config.limit_bytes))
        self.pool = Pool.open(pool_options(config, pool_config), self.evictor, world.machine)
        self.sources = Sources(pool_config, world.open_origin)
        self.files = Files(self.sources, config.limits.file_bytes)
        self.objects = Objects(self.name, self.sources, self.files)
        rates = [origin.bytes_per_s_max for origin in pool_config.origins]
        self.jobs: Jobs[CachedObject] = Jobs(
            self.evictor,
            ahead_bytes_max=config.limits.prefetch_bytes,
            origin_bytes_per_s=rates[0] if len(rates) == 1 else pool_config.origin_default.bytes_per_s_max,
        )
        self.keeper = Keeper(
            loop,
            self.pool,
            self.evictor,
            self.counters,
            lambda: self._config.limits.disk_queue_max,
            lambda: int(self._config.limits.buffer_bytes * HELD_SHARE),
        )
        self._last_trouble = ""
        self._on_trouble, self._on_registered = on_trouble, on_registered
        self.warming = Warming(
            self.jobs,
            self.keeper,
            judge=lambda key, chunk: self.evictor.judge(key, chunk)[0],
            capacity_chunks=lambda: self.evictor.capacity,
            is_coming=lambda key, chunk: self.fetcher.is_coming(key, chunk),
            last_trouble=lambda: self._last_trouble,
        )
        self.fetcher = Fetcher(loop, self.keeper, self.warming, buffers, self.counters, self._trouble)
        disks = config.disks_of(pool_config) if pool_config.limit_bytes else ()
        self.catalog = Catalog(
            disks[0].path / self.name / CATALOG_FOLDER if disks else None,
            DiskThread(loop, f"catalog-{self.name}"),
            on_trouble,
            pinned=self.evictor.pin,
            unpinned=self.evictor.unpin,
        )
        # Of clients that have gone; those that are here are read from their pages.
        self.readers_gone = ReaderCounts()
        self._thinking: asyncio.Task[None] | None = None

    @property
    def config(self) -> PoolConfig:
        return self._pool_config

    def reconfigure(self, config: Config, pool_config: PoolConfig) -> None:
        """Take over what a reload may change."""
        self._config, before, self._pool_config = config, self._pool_config, pool_config
        if pool_config.limit_bytes != before.limit_bytes:
            self.pool.set_limit(pool_config.limit_bytes)
            self.evictor.resize(slots_of_bytes(pool_config.limit_bytes))
        self.pool.set_write_budget(pool_config.write_bytes_per_day_max)
        self.jobs.ahead_bytes_max = config.limits.prefetch_bytes
        self.files.room.limit_bytes = config.limits.file_bytes
        self.sources.reconfigure(pool_config)

    # --- sets -----------------------------------------------------------------------------------------------------

    def hold(self, opened: ObjectSet) -> int:
        """One more session has this set open. A descriptor of its map, the caller's."""
        if opened.map is None:
            keys = [opened.key(number) for number in range(len(opened))]
            opened.map = self.pool.map_set(keys, opened.chunk_counts)
            self.objects.sets[opened.name] = opened
            self.catalog.note(Entry.of(opened, opened.manifest.snapshot if isinstance(opened, ShardSet) else None))
        opened.references += 1
        return opened.map.client_fd()

    def release(self, opened: ObjectSet) -> None:
        """One session less."""
        opened.references -= 1
        if opened.references == 0 and opened.map is not None:
            opened.map.close()
            opened.map = None
            self.objects.sets.pop(opened.name, None)

    def client_files(self) -> ClientFiles:
        """Fresh descriptors of words and slabs, to be closed when they are sent."""
        return self.pool.client_files()

    # --- loaders --------------------------------------------------------------------------------------------------

    async def register(self, session: Session, opened: ObjectSet, recipe: Recipe) -> tuple[int, object]:
        """A loader will read this set. Its number, and what is expected for it."""
        rows = opened.rows if isinstance(opened, ShardSet) else None
        objects: Sequence[CachedObject] = [opened.object(number) for number in range(len(opened))]
        made = self.jobs.register(id(session), recipe, rows, objects, session.page_or_zeros)
        self.fetcher.wake()
        self._on_registered()
        return made.number, report_of(made.forecast)

    def unregister(self, registration: int) -> None:
        """That loader has ended."""
        self.jobs.unregister(registration)

    def reader_has_left(self, page: PageView) -> None:
        """A client's last counters."""
        self.readers_gone = add_reader(self.readers_gone, page)

    @property
    def needs_looks(self) -> bool:
        """Whether the next tick is too late to see what is to be fetched."""
        return self.jobs.needs_looks or self.warming.is_active

    # --- time -----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """About once a second."""
        self.keeper.tick()
        self.jobs.tick()
        self.warming.settle()
        if self._thinking is None and (work := self.jobs.thinking()) is not None:
            self._thinking = self._loop.create_task(self._think(work))
        self.fetcher.wake()

    def _trouble(self, where: str, text: str) -> None:
        self._last_trouble = f"{where}: {text}"
        self._on_trouble(where, text)

    async def _think(self, work: Callable[[], object]) -> None:
        try:
            self.jobs.decide(await asyncio.to_thread(work))  # type: ignore[arg-type]
        finally:
            self._thinking = None

    async def close(self) -> None:
        """Let go of everything; what is in slots stays there."""
        if self._thinking is not None:
            await self._thinking
        await self.fetcher.close()
        self.files.close()
        self.catalog.close()
        await self.sources.close()
        if self.keeper.close():
            self.pool.close()


def pool_options(config: Config, pool: PoolConfig) -> PoolOptions:
    """What the library is told of a pool of the configuration."""
    disks = tuple(
        DiskOptions(name=disk.name, path=disk.path, readonly_path=disk.readonly_path) for disk in config.disks_of(pool)
    )
    return PoolOptions(
        name=pool.name,
        limit_bytes=pool.limit_bytes,
        disks=disks if pool.limit_bytes else (),
        words_path=config.words,
        words_readonly_path=config.words_readonly_path,
        growth_bytes=pool.growth_bytes,
        write_bytes_per_day_max=pool.write_bytes_per_day_max,
        health=HealthOptions(operation_timeout_s=config.limits.disk_timeout_s),
    )


def add_reader(counts: ReaderCounts, page: PageView) -> ReaderCounts:
    """The counts with those of one client more. A number that no client can have reached counts as nothing."""
    return ReaderCounts(
        **{name: getattr(counts, name) + (value if value < U64_MAX >> 8 else 0) for name, value in page.reader.items()}
    )
