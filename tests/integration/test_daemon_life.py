"""A daemon's life: it starts, is left by its clients, drains, is killed, is told to reload, and loses disks."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest

import fastfeed as ff
from fastfeed.cache.faulty import Fault
from fastfeed.cache.stats import DiskState, EvictReason
from fastfeed.daemon.keeper import SLOW_DISK_S
from fastfeed.errors import ConfigError
from fastfeed.wire import messages as m
from fastfeed.wire.hot import CHUNK_BYTES, Error, GetFlag, InRing
from fastfeed.wire.sessions import close_sessions
from tests.helpers.cache_daemon import CacheDaemon
from tests.helpers.raw_client import RawClient, RawConnection, hello
from tests.helpers.running_daemon import RunningDaemon

DATA = random.Random(9).randbytes(5 * CHUNK_BYTES + 77)
SERVICE_S_MAX = 2.0


def wait_kept(daemon: RunningDaemon, chunks: int) -> None:
    daemon.wait(lambda: daemon.service.pool.stats().published_slots == chunks, "the chunks were written")


def test_a_second_daemon_of_the_same_folder_is_refused(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, {}) as first, pytest.raises(ConfigError, match="in use by another cache daemon"):
        first.start_beside()


def test_a_process_with_two_sessions_is_one_client(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, {}) as daemon, RawClient(daemon.socket), RawClient(daemon.socket, data=False):
        assert daemon.daemon is not None
        assert len(daemon.daemon.server.sessions) == 2  # type: ignore[union-attr]
        assert daemon.call(daemon.daemon.report).pools[0].clients == 1


def test_what_was_kept_is_warm_after_a_restart_and_clients_attach_again(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, {"data.bin": DATA}) as daemon:
        with RawClient(daemon.socket) as client:
            client.open_url(daemon.url("data.bin"))
            for chunk in range(6):
                client.read(chunk * CHUNK_BYTES, 50)
            wait_kept(daemon, 6)
            epoch = client.welcome.daemon_epoch
            daemon.stop()
            left = m.unpack(client.control.receive().frame)
            assert isinstance(left, m.Leaving)
            with pytest.raises(EOFError):
                client.control.receive()
        assert not daemon.socket.exists()
        daemon.start()
        with RawClient(daemon.socket) as client:
            assert client.welcome.daemon_epoch != epoch
            client.open_url(daemon.url("data.bin"))
            for chunk in range(6):
                assert client.read(chunk * CHUNK_BYTES, 50) == DATA[chunk * CHUNK_BYTES :][:50]
        assert daemon.service.counters.demand_bytes == 0


def test_who_drains_answers_first_and_takes_nobody_new(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, {"data.bin": DATA}, scripts={"get_range": "s"}) as daemon:
        with RawClient(daemon.socket) as client:
            client.open_url(daemon.url("data.bin"))
            request = client.get(0, 10)
            told, _ = client.control.ask(m.Ask(command=m.Command.DRAIN))
            assert isinstance(told, m.Told)
            number, answer = client.answer()
            assert number == request
            assert client.bytes_of(answer, 0, 10) == DATA[:10]
            daemon.join()
        with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
            RawConnection(daemon.socket)


def test_a_daemon_that_nobody_uses_leaves_and_one_that_is_used_stays(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, {"data.bin": DATA}, flags={"idle_exit": "0s"}) as daemon:
        with RawClient(daemon.socket) as client:
            client.open_url(daemon.url("data.bin"))
            daemon.call(lambda: daemon.daemon.server.tick(time.monotonic()))
            assert client.read(0, 10) == DATA[:10]
        daemon.join()
        assert not daemon.socket.exists()


def test_a_reload_takes_limits_and_refuses_the_rest_whole(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, {"data.bin": DATA}) as daemon, RawClient(daemon.socket) as client:
        client.open_url(daemon.url("data.bin"))
        for chunk in range(6):
            client.read(chunk * CHUNK_BYTES, 50)
        wait_kept(daemon, 6)
        daemon.flags["pools.default.limit"] = "4MiB"
        daemon.flags["origin.in_flight"] = "3"
        changes = daemon.call(daemon.daemon.reload)
        assert {change.key for change in changes} >= {"pools.default.limit", "origin.in_flight"}
        assert daemon.call(lambda: daemon.service.pool.used_bytes) <= 4 << 20
        assert next(iter(daemon.service.sources)).in_flight_max == 3
        daemon.flags["pools.default.limit"] = "8MiB"
        daemon.flags["pools.default.growth"] = "none"
        with pytest.raises(ConfigError, match="needs a restart"):
            daemon.call(daemon.daemon.reload)
        assert daemon.service.pool.limit_bytes == 4 << 20
        assert client.read(7, 7) == DATA[7:14]


def test_a_new_pool_of_a_reload_is_served(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, {"data.bin": DATA}) as daemon:
        daemon.flags |= {"pools.other.limit": "4MiB", "pools.other.users": str(os.geteuid()),
                         "pools.other.any_origin": "true", "pools.default.users": str(os.geteuid())}  # fmt: skip
        daemon.call(daemon.daemon.reload)
        connection = RawConnection(daemon.socket)
        answer, _ = connection.ask(hello(m.Kind.CONTROL, pool="other"))
        assert isinstance(answer, m.Welcome)
        assert answer.pool == "other"
        connection.close()


def test_a_slot_whose_bytes_rotted_is_read_from_the_origin_and_taken_out_of_use(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, {"data.bin": DATA}) as daemon, RawClient(daemon.socket) as client:
        client.open_url(daemon.url("data.bin"))
        client.read(0, 10)
        wait_kept(daemon, 1)
        damage(next((tmp_path / "disk").rglob("slab*")), DATA[:64])
        client.get(499_990, 100, flags=GetFlag.SLOT_WAS_BAD)
        _, answer = client.answer()
        assert isinstance(answer, InRing)
        assert client.bytes_of(answer, 499_990, 100) == DATA[499_990:500_090]
        daemon.wait(lambda: daemon.service.pool.stats().counters.quarantined == 1, "the slot was quarantined")
        client.get(500_000, 100, flags=GetFlag.BY_RING)
        _, answer = client.answer()
        assert client.bytes_of(answer, 500_000, 100) == DATA[500_000:500_100]


def test_after_a_power_loss_slots_are_checked_before_anybody_is_sent_there(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, {"data.bin": DATA}) as daemon:
        with RawClient(daemon.socket) as client:
            client.open_url(daemon.url("data.bin"))
            for chunk in range(6):
                client.read(chunk * CHUNK_BYTES, 50)
            wait_kept(daemon, 6)
            shutil.copytree(tmp_path / "disk", tmp_path / "as it was")
        daemon.stop()
        # As if the machine had lost power before: the disk as it was, nothing in RAM, another boot.
        shutil.rmtree(tmp_path / "disk")
        (tmp_path / "as it was").rename(tmp_path / "disk")
        for file in daemon.words.iterdir():
            file.unlink()
        daemon.boot = b"another boot    "
        damage(next((tmp_path / "disk").rglob("slab*")), DATA[CHUNK_BYTES : CHUNK_BYTES + 64])
        daemon.start()
        with RawClient(daemon.socket) as client:
            client.open_url(daemon.url("data.bin"))
            for chunk in range(6):
                assert client.read(chunk * CHUNK_BYTES, 50) == DATA[chunk * CHUNK_BYTES :][:50]
        assert daemon.service.counters.demand_bytes == CHUNK_BYTES


def damage(slab: Path, beginning: bytes) -> None:
    """Zero a part of the slot whose chunk begins so."""
    at = slab.read_bytes().find(beginning)
    assert at >= 0
    with open(slab, "r+b") as file:
        file.seek(at + 500_000)
        file.write(bytes(5000))


def test_a_disk_that_hangs_stops_no_reader(tmp_path: Path) -> None:
    """What is read comes from the origin meanwhile, and the disk is used again afterwards."""
    flags = {"limits.disk_timeout": "0.2s"}
    with RunningDaemon(tmp_path, {"data.bin": DATA}, flags=flags) as daemon, RawClient(daemon.socket) as client:
        client.open_url(daemon.url("data.bin"))
        client.read(0, 10)
        wait_kept(daemon, 1)
        for operation in ("fill", "read", "verify", "sync"):
            daemon.faults.set(operation, Fault.HANG)
        for chunk in range(1, 6):
            assert client.read(chunk * CHUNK_BYTES, 50) == DATA[chunk * CHUNK_BYTES :][:50]
        client.get(100, 100, flags=GetFlag.BY_RING)
        _, answer = client.answer()
        assert client.bytes_of(answer, 100, 100) == DATA[100:200]
        daemon.wait(lambda: daemon.service.pool.disk_states()["default"] is DiskState.OUT, "the disk was seen to hang")
        assert client.read(3 * CHUNK_BYTES, 50) == DATA[3 * CHUNK_BYTES :][:50]
        daemon.faults.clear()
        daemon.wait(lambda: daemon.service.pool.disk_states()["default"] is DiskState.OK, "the disk came back")


def test_a_disk_that_hangs_is_waited_for_once_and_its_chunks_come_by_exact_bytes(tmp_path: Path) -> None:
    """Before its health says that it is out: who asks next does not wait at all, and no chunk comes for nothing."""
    with RunningDaemon(tmp_path, {"data.bin": DATA}) as daemon, RawClient(daemon.socket) as client:
        client.open_url(daemon.url("data.bin"))
        client.read(0, 10)
        wait_kept(daemon, 1)
        before = daemon.service.counters.demand_bytes
        daemon.faults.set("read", Fault.HANG)
        assert client.read(100, 50, flags=GetFlag.BY_RING) == DATA[100:150]
        begun = time.monotonic()
        for at in range(200, 1200, 100):
            assert client.read(at, 50, flags=GetFlag.BY_RING) == DATA[at : at + 50]
        assert time.monotonic() - begun < 5 * SLOW_DISK_S  # ten waits would be twice that
        assert daemon.service.counters.demand_bytes - before == 11 * 50
        assert daemon.service.pool.disk_states()["default"] is DiskState.OK


def test_a_slot_that_cannot_be_read_is_fetched_once_and_taken_out_of_use(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, {"data.bin": DATA}) as daemon, RawClient(daemon.socket) as client:
        client.open_url(daemon.url("data.bin"))
        client.read(0, 10)
        wait_kept(daemon, 1)
        daemon.faults.set("read", Fault.EIO)
        assert client.read(100, 50, flags=GetFlag.BY_RING) == DATA[100:150]
        assert daemon.service.pool.stats().counters.evictions == {EvictReason.DISK: 1}
        assert daemon.service.pool.disk_states()["default"] is DiskState.SUSPECT


def test_service_is_back_soon_after_kill_9_and_readers_go_on(tmp_path: Path) -> None:
    with ff.DatasetWriter(tmp_path / "data", ff.Schema({"data": ff.Bytes()}), shard_size="4MiB") as writer:
        for row in range(300):
            writer.write({"data": random.Random(row).randbytes(20_000)})
    local = ff.open(tmp_path / "data")
    rows = list(range(0, 300, 7))
    wanted = list(local.take(rows)["data"])
    with CacheDaemon(tmp_path / "daemon", limit="32MiB") as daemon:
        dataset = ff.open(f"file://{tmp_path}/data", cache=str(daemon.socket))
        try:
            assert list(dataset.take(rows)["data"]) == wanted
            for _ in range(2):
                daemon.kill()
                assert daemon.start() - daemon.starved_s < SERVICE_S_MAX
                assert list(dataset.take(rows)["data"]) == wanted
        finally:
            close_sessions()


def test_every_request_is_answered_by_its_deadline(tmp_path: Path) -> None:
    scripts = {"head": "h"}
    with RunningDaemon(tmp_path, {"data.bin": DATA}, scripts=scripts) as daemon, RawClient(daemon.socket) as client:
        begun = time.monotonic()
        answer, _ = client.control.ask(m.Head(url=daemon.url("data.bin"), deadline_ms=100))
        assert isinstance(answer, Error)
        assert "no answer in 0.1 s" in answer.text
        assert time.monotonic() - begun < 5
