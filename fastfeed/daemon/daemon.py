"""The daemon: pools, socket, HTTP port and clock of one process, from its start to its end.

Start: 1. Take the lock of the runtime folder, waiting for a daemon that is leaving. 2. Open the pools: recovery reads
slot tables, not slabs. 3. Listen: whoever connects is served from now on. 4. The HTTP port.
End (SIGTERM, SIGINT, `fastfeed cache drain`, or idle): 1. Remove the socket: who comes now starts or waits for the next
daemon. 2. Ask clients to attach again, and give them `drain_s` to have their answers. 3. End sessions, fetches, pools.
4. Let go of the lock, which the next daemon waits for. kill -9 does 4 at once, and recovery the rest.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fastfeed.cache.owner import OwnerLock
from fastfeed.daemon.allocation import keep_freed_memory
from fastfeed.daemon.buffers import Buffers
from fastfeed.daemon.commands import DaemonCommands
from fastfeed.daemon.config import Change, Config, Loaded, reload
from fastfeed.daemon.open_files import allow_many_open_files
from fastfeed.daemon.pool_service import PoolService, World
from fastfeed.daemon.report import Report
from fastfeed.daemon.reporting import make_report
from fastfeed.daemon.server import Server
from fastfeed.daemon.troubles import Troubles
from fastfeed.errors import ConfigError
from fastfeed.wire.places import make_private_directory
from fastfeed.wire.starting import tell_ready

if TYPE_CHECKING:
    from fastfeed.daemon.http import HttpPort

log = logging.getLogger("fastfeed.daemon")

LOCK_NAME = "daemon.lock"
# Deadlines, pages of clients and states of disks are looked at so often.
TICK_S = 1.0
# Places of jobs are looked at so often where something may have to be fetched for them; else with the ticks.
PREFETCH_POLL_S = 0.05
# A daemon that leaves has let go of its folder by then; a longer drain is for the clients of a system service.
LOCK_TIMEOUT_S = 20.0
LOCK_POLL_S = 0.02
# A daemon that was started for somebody waits for them at least so long, however soon it leaves afterwards.
FIRST_CLIENT_S = 30.0
# Requests that are under way when clients have been asked to attach again: looked at so often.
DRAIN_POLL_S = 0.05
# Mode of the socket: whoever may pass the folder may connect, and the kernel says who it is.
SOCKET_MODE_SHARED = 0o666
SOCKET_MODE_OWN = 0o600


class Daemon:
    """Use `serve`. In tests: start(), leave(), wait_left(), in a running loop."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        load_again: Callable[[], Loaded] | None = None,
        world: World | None = None,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
    ) -> None:
        self.loaded = loaded
        self._load_again, self._world = load_again, world or World()
        self._lock_timeout_s = lock_timeout_s
        self.epoch = secrets.randbits(63)
        self.started_s = time.time()
        self.troubles = Troubles()
        self.buffers = Buffers(loaded.config.limits.buffer_bytes)
        self.services: dict[str, PoolService] = {}
        self.is_draining = False
        self.loop_lag_s = 0.0
        self._has_started, self._left = asyncio.Event(), asyncio.Event()
        self._has_registered = asyncio.Event()  # a loader has, since places of jobs were looked at
        self._leaving: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._polling: asyncio.Task[None] | None = None
        self._lock: OwnerLock | None = None
        self.server: Server | None = None
        self.http: HttpPort | None = None

    @property
    def config(self) -> Config:
        return self.loaded.config

    async def start(self) -> None:
        """Serve from now on. ConfigError, OSError, CacheFullError: nothing is left behind."""
        loop = asyncio.get_running_loop()
        make_private_directory(self.config.runtime, os.geteuid())
        self._lock = await _take_lock(self.config.runtime, self._lock_timeout_s)
        try:
            for pool in self.config.pools:
                self.services[pool.name] = PoolService(
                    loop, self.config, pool, self.buffers, self.troubles.add, self._has_registered.set, self._world
                )
            self.server = Server(loop, lambda: self.config, self.services, DaemonCommands(self), self.epoch)
            self.server.listen(self.config.socket, _socket_mode(self.config))
            if self.config.http is not None:
                # aiohttp is a third of the time in which a daemon starts: who waits for the socket is served before.
                module = await asyncio.to_thread(importlib.import_module, "fastfeed.daemon.http")
                self.http = module.HttpPort(self, lambda: self.config, os.geteuid())
                await self.http.start(self.config.http)
        except BaseException:
            await self._close()
            raise
        self._ticking = loop.create_task(self._tick_on())
        self._polling = loop.create_task(self._poll_prefetch())
        self._has_started.set()
        log.info("serving at %s; http %s", self.config.socket, self.http.url if self.http else "off")

    def leave(self) -> None:
        """Begin to leave, once it has started. Idempotent."""
        if self._leaving is None:
            self._leaving = asyncio.get_running_loop().create_task(self._leave())

    async def wait_left(self) -> None:
        """Until everything is closed."""
        await self._left.wait()

    def reload(self) -> list[Change]:
        """Read the configuration again and take over what may change. ConfigError: nothing has changed."""
        return self._take(self._read_again())

    async def reload_beside(self) -> None:
        """The same, read in a thread: it looks at the disks, and one may hang. What came of it is in the log."""
        try:
            changes = self._take(await asyncio.to_thread(self._read_again))
        except (ConfigError, OSError) as error:
            self.troubles.add("configuration", str(error))
            return
        for change in changes:
            log.info("%s: %s -> %s", change.key, change.before, change.after)

    def _read_again(self) -> Loaded:
        if not self._has_started.is_set():
            raise ConfigError("the daemon is still starting, or has failed to; its configuration was not read again.")
        if self._load_again is None:
            raise ConfigError("this daemon was started without a configuration that could be read again.")
        return self._load_again()

    def _take(self, loaded: Loaded) -> list[Change]:
        self.loaded, changes = reload(self.loaded, loaded)
        self.buffers.limit_bytes = self.config.limits.buffer_bytes
        for pool in self.config.pools:
            known = self.services.get(pool.name)
            if known is not None:
                known.reconfigure(self.config, pool)
            else:
                self.services[pool.name] = PoolService(
                    asyncio.get_running_loop(), self.config, pool, self.buffers, self.troubles.add,
                    self._has_registered.set, self._world
                )  # fmt: skip
        return changes

    def report(self) -> Report:
        """Everything countable, now."""
        return make_report(self)

    async def _leave(self) -> None:
        await self._has_started.wait()
        assert self.server is not None
        self.is_draining = True
        self.server.stop_listening()
        for service in self.services.values():
            service.pool.drain()
        self.server.say_leaving()
        deadline_s = time.monotonic() + self.config.drain_s
        while self.server.is_busy and time.monotonic() < deadline_s:
            await asyncio.sleep(DRAIN_POLL_S)
        await self._close()
        self._left.set()

    async def _close(self) -> None:
        for task in (self._ticking, self._polling):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        if self.http is not None:
            await self.http.close()
        if self.server is not None:
            self.server.close()
        for service in self.services.values():
            await service.close()
        if self._lock is not None:
            self._lock.close()

    async def _tick_on(self) -> None:
        assert self.server is not None
        loop = asyncio.get_running_loop()
        while True:
            wanted_s = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self.loop_lag_s = max(0.9 * self.loop_lag_s, loop.time() - wanted_s)
            now_s = time.monotonic()
            try:
                self.server.tick(now_s)
                for service in self.services.values():
                    service.tick()
            except Exception as error:  # the next tick comes all the same: deadlines and the idle exit hang on it
                log.exception("a tick failed")
                self.troubles.add("daemon", f"{type(error).__name__}: {error}; its log says where.")
            if self._is_idle(now_s):
                log.info("leaving: nobody is connected")
                return self.leave()

    async def _poll_prefetch(self) -> None:
        while True:
            await self._time_to_look()
            for service in self.services.values():
                if service.needs_looks:
                    service.jobs.look()
                    service.fetcher.wake()
            assert self.server is not None
            if (
                self.config.idle_exit_s is not None
                and self.config.idle_exit_s < TICK_S
                and self._is_idle(time.monotonic())
            ):
                return self.leave()

    async def _time_to_look(self) -> None:
        """PREFETCH_POLL_S where there is anything to look for; a daemon that only serves hits sleeps meanwhile."""
        leaves_at_once = self.config.idle_exit_s is not None and self.config.idle_exit_s < TICK_S
        if leaves_at_once or any(service.needs_looks for service in self.services.values()):
            await asyncio.sleep(PREFETCH_POLL_S)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._has_registered.wait(), TICK_S)
        self._has_registered.clear()

    def _is_idle(self, now_s: float) -> bool:
        assert self.server is not None
        idle_s = self.config.idle_exit_s
        if idle_s is None or self.server.has_clients:
            return False
        least_s = idle_s if self.server.had_clients else max(idle_s, FIRST_CLIENT_S)
        return now_s - self.server.last_client_s >= least_s


def serve(loaded: Loaded, load_again: Callable[[], Loaded]) -> None:
    """Run a daemon until it is asked to leave. The one entry of `fastfeed cache serve`."""
    keep_freed_memory()
    allow_many_open_files()
    asyncio.run(_serve(loaded, load_again))


async def _serve(loaded: Loaded, load_again: Callable[[], Loaded]) -> None:
    loop = asyncio.get_running_loop()
    daemon = Daemon(loaded, load_again=load_again)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.leave)
    reloads: set[asyncio.Task[None]] = set()  # the loop alone does not keep a task

    def begin_reload() -> None:
        task = loop.create_task(daemon.reload_beside())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, begin_reload)
    await daemon.start()
    tell_ready(os.environ)
    # What was imported stays for ever: the collector need not look at it again (2 % of the time of a cold epoch).
    gc.freeze()
    await daemon.wait_left()
    log.info("has left")


async def _take_lock(runtime: Path, timeout_s: float) -> OwnerLock:
    """The lock of a runtime folder: one daemon a folder. One that is leaving is waited for."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            return OwnerLock(runtime / LOCK_NAME)
        except ConfigError:
            if time.monotonic() > deadline_s:
                raise
        await asyncio.sleep(LOCK_POLL_S)


def _socket_mode(config: Config) -> int:
    """For others too where a pool has other users than the daemon's own."""
    own = {os.geteuid()}
    shared = any(set(pool.users) - own or pool.groups for pool in config.pools)
    return SOCKET_MODE_SHARED if shared else SOCKET_MODE_OWN
