"""A dataset's folder in an object store keeps what every storage keeps, and says where it cannot."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastfeed.errors import CommitConflictError, ConfigError, CorruptDataError, OriginError
from fastfeed.storage.faulty_origin import FaultyOrigin
from fastfeed.storage.lease import LEASE_S, LOCK_FOLDER, Leases
from fastfeed.storage.loop_thread import LoopThread
from fastfeed.storage.memory_origin import MemoryOrigin
from fastfeed.storage.options import OriginOptions
from fastfeed.storage.protocol import Listed, Origin, Storage
from fastfeed.storage.remote_storage import STAGING_VARIABLE, RemoteStorage, require_own, staging_of
from fastfeed.storage.steady import SteadyOrigin
from tests.contract.test_storage import StorageContract

URL = "s3://bucket/sets/one"
MakeStorage = Callable[[Origin], RemoteStorage]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeStorage]:
    """Storages whose threads have ended at the end of the test."""
    monkeypatch.setenv(STAGING_VARIABLE, str(tmp_path / "staging"))
    made: list[RemoteStorage] = []

    def storage(origin: Origin) -> RemoteStorage:
        made.append(RemoteStorage(URL, origin=origin))
        return made[-1]

    yield storage
    for each in made:
        each.close()


class TestRemoteStorage(StorageContract):
    @pytest.fixture
    def storage(self, make: MakeStorage) -> Storage:
        storage = make(SteadyOrigin(MemoryOrigin(), OriginOptions()))
        storage.list("")  # its thread begins
        return storage

    def test_a_file_that_is_mapped_is_held_and_not_removed(self, storage: Storage) -> None:
        """It is not: readers of an object store hold nothing, and what they have read is theirs."""
        storage.create("a/one", b"1")
        mapped = storage.map("a/one")
        assert not storage.held("a/one")
        assert not storage.remove(["a/one", "a/two"])
        assert storage.list("a") == []
        assert bytes(mapped) == b"1"
        with pytest.raises(FileNotFoundError):
            storage.held("a/one")

    def test_publishing_again_makes_a_file_young(self, storage: Storage) -> None:
        """It does not: the lock alone keeps what is published from a collection."""
        path = storage.staging() / "one"
        path.write_bytes(b"1")
        storage.publish([(path, "final/one")])
        before = storage.files("final")
        storage.publish([(path, "final/one")])
        assert storage.files("final") == before

    def test_a_file_that_was_handed_over_is_uploaded_at_once_and_leaves_staging(self, storage: Storage) -> None:
        names = ["zero", "one", "two", "three", "four"]
        for name in names:
            (storage.staging() / name).write_bytes(name.encode() if name != "zero" else b"")
            storage.hand_over(storage.staging() / name, f"final/{name}")
        storage.publish((storage.staging() / name, f"final/{name}") for name in names)
        assert list(storage.staging().iterdir()) == []
        assert sorted(storage.list("final")) == sorted(names)
        assert bytes(storage.map("final/four")) == b"four"

    def test_what_was_handed_over_and_removed_since_is_no_dataset(self, storage: Storage) -> None:
        path = storage.staging() / "one"
        path.write_bytes(b"1")
        storage.hand_over(path, "final/one")
        storage.publish([(path, "final/one")])
        storage.remove(["final/one"])
        with pytest.raises(CorruptDataError, match="has been removed since"):
            storage.publish([(path, "final/one")])

    def test_an_upload_that_fails_is_told_by_what_comes_next(self, make: MakeStorage) -> None:
        options = OriginOptions(retries_max=0)
        storage = make(SteadyOrigin(FaultyOrigin(MemoryOrigin(), {"put": "eeee"}), options))

        def hand_over_all() -> None:
            for name in "abcd":
                (storage.staging() / name).write_bytes(b"1")
                storage.hand_over(storage.staging() / name, f"final/{name}")

        with pytest.raises(OriginError, match="PUT sets/one/final/a"):
            hand_over_all()

    def test_its_staging_is_the_same_for_each_run(self, storage: Storage, tmp_path: Path) -> None:
        assert storage.staging_path == staging_of(storage.url) == storage.staging()
        assert storage.staging_path.parent == tmp_path / "staging"
        assert staging_of("s3://bucket/other") != storage.staging_path

    def test_a_forked_child_is_told_that_it_cannot_use_it(self, storage: Storage) -> None:
        child = os.fork()
        if child == 0:
            try:
                storage.list("")
            except ConfigError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_place_for_staging_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=STAGING_VARIABLE):
        require_own(tmp_path / "link")
    require_own(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


class TestLeases:
    """With times of a tenth of a second in the place of half an hour."""

    def test_a_writer_and_a_collector_are_never_there_together(self) -> None:
        origin = MemoryOrigin()
        inside: list[str] = []
        seen: list[list[str]] = []

        async def enter(kind: str, times: int) -> None:
            for _ in range(times):
                leases = Leases(origin, "set")
                async with leases.exclusive() if kind == "collector" else leases.shared():
                    inside.append(kind)
                    seen.append(list(inside))
                    await asyncio.sleep(0.001)
                    inside.remove(kind)

        async def all_together() -> None:
            await asyncio.gather(enter("writer", 3), enter("writer", 3), enter("collector", 1), enter("collector", 1))

        asyncio.run(all_together())
        assert ["collector"] in seen
        assert not any("collector" in each and len(each) > 1 for each in seen)
        assert asyncio.run(_names(origin)) == []

    def test_what_a_dead_process_left_counts_no_more_when_it_is_old(self) -> None:
        origin = AgedOrigin()

        async def leave_and_enter() -> None:
            await origin.put(f"set/{LOCK_FOLDER}/writing-dead", b"")
            await origin.put(f"set/{LOCK_FOLDER}/collecting-dead", b"")
            with pytest.raises(CommitConflictError, match="being collected by another process"):
                async with Leases(origin, "set", wait_s_max=0.05).exclusive():
                    pass
            with pytest.raises(CommitConflictError, match="being collected"):
                async with Leases(origin, "set", wait_s_max=0.05).shared():
                    pass
            origin.older_s = LEASE_S + 1
            origin.aged = ("dead",)
            async with Leases(origin, "set", wait_s_max=0.05).shared():
                pass
            async with Leases(origin, "set", wait_s_max=0.05).exclusive():
                pass
            assert await _names(origin) == []

        asyncio.run(leave_and_enter())

    def test_who_stays_long_renews_its_hold(self) -> None:
        faulty = FaultyOrigin(MemoryOrigin(), {"put": ".e"})

        async def stay() -> None:
            async with Leases(faulty, "set", lease_s=0.06).shared():
                while len([each for each in faulty.calls if each[0] == "put"]) < 4:
                    await asyncio.sleep(0.005)

        asyncio.run(stay())


class TestLoopThread:
    def test_runs_and_ends_and_runs_again(self) -> None:
        thread = LoopThread()

        async def where() -> str:
            return threading.current_thread().name

        assert thread.run(where()) == "fastfeed-origin"
        thread.close()
        thread.close()
        assert thread.run(where()) == "fastfeed-origin"
        thread.close()

    def test_what_still_runs_is_cancelled_at_the_end(self) -> None:
        thread = LoopThread()
        ended: list[str] = []

        async def wait() -> None:
            try:
                started.set()
                await asyncio.sleep(60)
            finally:
                ended.append("cancelled")

        started = threading.Event()
        future = thread.start(wait())
        assert started.wait(5)
        thread.close()
        assert ended == ["cancelled"]
        assert future.cancelled()

    def test_ends_with_its_last_reference(self) -> None:
        before = threading.active_count()
        thread = LoopThread()
        thread.run(asyncio.sleep(0))
        assert threading.active_count() == before + 1
        del thread
        assert threading.active_count() == before


class AgedOrigin(MemoryOrigin):
    """Objects with these names are older than they are."""

    older_s = 0.0
    aged: tuple[str, ...] = ()

    async def list(self, prefix: str, *, recursive: bool = False):  # type: ignore[no-untyped-def]
        async for each in super().list(prefix, recursive=recursive):
            older_s = self.older_s if each.path.endswith(self.aged) and self.aged else 0.0
            yield Listed(each.path, each.size_bytes, (each.modified_s or 0) - older_s)


async def _names(origin: Origin) -> list[str]:
    return [each.path async for each in origin.list("", recursive=True)]
