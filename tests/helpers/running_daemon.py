"""A cache daemon in a thread of the test's own process, over origins in memory that fail as they are told.

    with RunningDaemon(tmp_path, {"data.bin": b"..."}) as daemon, RawClient(daemon.socket) as client:
        client.open_url(daemon.url("data.bin"))

What the loop's thread owns is looked at by `call`. Its words lie in /dev/shm, in a folder that goes with it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from fastfeed.cache.faulty import SlabFaults
from fastfeed.cache.opening import Machine
from fastfeed.daemon.config import Loaded, load
from fastfeed.daemon.daemon import Daemon
from fastfeed.daemon.defaults import Machine as ConfiguredMachine
from fastfeed.daemon.pool_service import PoolService, World
from fastfeed.storage.faulty_origin import FaultyOrigin
from fastfeed.storage.memory_origin import MemoryOrigin
from fastfeed.storage.options import OriginOptions
from fastfeed.storage.places import place_of
from fastfeed.storage.steady import SteadyOrigin

T = TypeVar("T")
ROOT_URL = "s3://bucket"
TIMEOUT_S = 30.0
POLL_S = 0.005


class RunningDaemon:
    """objects: path -> content, at ROOT_URL. scripts: of a FaultyOrigin around them. flags: dotted setting -> value."""

    def __init__(
        self,
        folder: Path,
        objects: Mapping[str, bytes],
        *,
        scripts: Mapping[str, str] | None = None,
        flags: Mapping[str, str] | None = None,
        limit: str = "32MiB",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.memory = MemoryOrigin(ROOT_URL)
        self.origin = FaultyOrigin(self.memory, scripts or {})
        self.faults = SlabFaults()
        self.boot = bytes(16)
        self._objects, self._options = objects, options or {}
        self.flags = {"pools.default.limit": limit, "http": "off", **(flags or {})}
        self.words = Path(tempfile.mkdtemp(prefix="ff-test-", dir="/dev/shm"))
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self.daemon: Daemon | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "run" / "cache.sock"

    def url(self, path: str) -> str:
        return f"{ROOT_URL}/{path}"

    def loaded(self, **changes: str) -> Loaded:
        """The configuration, with other flags."""
        environment = {
            "FASTFEED_RUNTIME_DIR": str(self.folder / "run"),
            "FASTFEED_CACHE_DIR": str(self.folder / "disk"),
            "HOME": str(self.folder),
        }
        flags = {"words": str(self.words), **self.flags, **changes}
        typed = {key: (value, f"--set {key}") for key, value in flags.items()}
        return load(machine=ConfiguredMachine.here(environment), flags=typed)

    @property
    def service(self) -> PoolService:
        """Its only pool."""
        assert self.daemon is not None
        return self.daemon.services["default"]

    def call(self, work: Callable[[], T]) -> T:
        """The result of `work` in the daemon's loop."""

        async def run() -> T:
            return work()

        return self.run(run())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives in the daemon's loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT_S)

    def wait(self, what: Callable[[], bool], why: str = "what was waited for") -> None:
        """Until `what` is true in the daemon's loop."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not self.call(what):
            assert time.monotonic() < deadline_s, f"{why} did not happen in {TIMEOUT_S:.0f} s"
            time.sleep(POLL_S)

    def put(self, path: str, data: bytes) -> None:
        """Make or replace an object of the origin."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.memory.put(path, data), self._loop).result(TIMEOUT_S)

    def serve_folder(self, folder: Path) -> None:
        """Put all files below a folder into the origin."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.put(str(file.relative_to(folder)), file.read_bytes())

    def remove_all(self) -> None:
        """The origin has nothing any more."""
        assert self._loop is not None

        async def remove() -> None:
            async for each in self.memory.list("", recursive=True):
                await self.memory.delete(each.path)

        asyncio.run_coroutine_threadsafe(remove(), self._loop).result(TIMEOUT_S)

    def start_beside(self) -> None:
        """Try to start another daemon on the same folders, at once."""

        async def run() -> None:
            other = Daemon(self.loaded(), world=self._world(), lock_timeout_s=0.05)
            await other.start()

        asyncio.run(run())

    def start(self) -> None:
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, name="daemon", daemon=True)
        self._thread.start()
        assert self._ready.wait(TIMEOUT_S)
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """As SIGTERM does. Idempotent."""
        if self._thread is not None and self._loop is not None and self._thread.is_alive():
            assert self.daemon is not None
            self._loop.call_soon_threadsafe(self.daemon.leave)
            self.join()

    def join(self) -> None:
        """Until it has left."""
        assert self._thread is not None
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive(), "the daemon does not leave"
        self._thread = None
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> RunningDaemon:
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self.words)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.faults.clear()
        try:
            self.stop()
        finally:
            shutil.rmtree(self.words)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # shown in the test's thread, by start() or join()
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        for path, data in self._objects.items():
            await self.memory.put(path, data)
        self.daemon = Daemon(self.loaded(), load_again=self.loaded, world=self._world())
        await self.daemon.start()
        self._ready.set()
        await self.daemon.wait_left()

    def _world(self) -> World:
        return World(self._open, Machine(slab=self.faults.slab, boot_id=lambda: self.boot))

    def _open(self, url: str, options: OriginOptions) -> tuple[SteadyOrigin, str]:
        chosen = replace(options, backoff_s=0.001, backoff_s_max=0.01, **self._options)
        return SteadyOrigin(self.origin, chosen), place_of(url).path
