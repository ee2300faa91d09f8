"""A process's client of the cache, where the daemon, the disk or the process itself goes another way."""

from __future__ import annotations

import errno
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastfeed._native import cache
from fastfeed._native.feed import Reader
from fastfeed.errors import (
    CacheFullError,
    ConfigError,
    CorruptDataError,
    DaemonUnavailableError,
    FastfeedError,
    OriginError,
)
from tests.helpers.fake_node import BAD_SLOT, BY_RING, FakeNode, Get
from tests.helpers.raw_shards import BYTES, Col, Shards, row_shards

SET = 3
PAGE = struct.Struct("<8Q")  # words 16 to 23 of the page
PAGE_AT = 128
COLUMN = Col("data", BYTES)
ROWS = 40


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    values = [os.urandom(3000 + row) for row in range(ROWS)]
    return row_shards(tmp_path, [COLUMN], [[values[:25]], [values[25:]]])


@pytest.fixture
def node(tmp_path: Path, shards: Shards) -> Iterator[FakeNode]:
    made = FakeNode(tmp_path, [shards.path(number).read_bytes() for number in range(2)])
    yield made
    made.close()


@pytest.fixture
def client(node: FakeNode) -> Iterator[cache.CacheClient]:
    made = cache.CacheClient(deadline_s=20)
    node.connect(made, SET)
    yield made
    made.close()


def rows() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.arange(ROWS, dtype=np.int64)


def read_all(shards: Shards, client: cache.CacheClient, **options: str) -> bytes:
    reader = Reader(shards.snapshot(cache=(client, SET)), [COLUMN.output(0)], **options)
    try:
        return bytes(reader.take(rows()).columns[0].values.tobytes())  # type: ignore[union-attr]
    finally:
        reader.close()


def local(shards: Shards) -> bytes:
    reader = Reader(shards.snapshot(), [COLUMN.output(0)])
    return bytes(reader.take(rows()).columns[0].values.tobytes())  # type: ignore[union-attr]


def test_hits_cost_no_message_and_are_counted_in_the_page(
    node: FakeNode, client: cache.CacheClient, shards: Shards
) -> None:
    node.fill_all()
    assert read_all(shards, client) == local(shards)
    stats = client.stats()
    assert (stats["messages"], stats["misses"]) == (0, 0)
    assert node.gets == []
    page = PAGE.unpack(os.pread(node.page_fd, PAGE.size, PAGE_AT))
    assert page == (stats["slab_reads"], stats["slab_bytes"], 0, 0, 0, 0, 0, 0)
    assert stats["slab_bytes"] >= len(local(shards))


def test_a_miss_is_one_message_and_names_what_it_wants(
    node: FakeNode, client: cache.CacheClient, shards: Shards
) -> None:
    node.answering = lambda its, get: its.answer_ring(get) or True  # type: ignore[func-returns-value]
    assert client.read(SET, 1, 100, 50) == node.objects[1][100:150]
    (get,) = node.gets
    assert (get.object, get.offset, get.length, get.flags, get.entry) == (1, 100, 50, 0, 0)
    assert 19_000 < get.deadline_ms <= 20_000
    stats = client.stats()
    assert (stats["ring_reads"], stats["ring_bytes"], stats["messages"]) == (1, 50, 2)  # GET and RELEASE
    assert stats["miss_wait_us"] > 0


def test_damage_in_a_slot_is_reported_once_and_read_past(
    node: FakeNode, client: cache.CacheClient, shards: Shards
) -> None:
    node.fill_all()
    entry = node.entry_of(0, 0)
    node.damage((entry >> 38) * cache.SLOT_BYTES + 40_000)
    assert read_all(shards, client) == local(shards)
    assert [(get.flags, get.entry) for get in node.gets] == [(BY_RING | BAD_SLOT, entry)]
    assert client.stats()["crc_failures"] == 1


def test_damage_that_comes_by_the_ring_too_is_an_error_that_names_the_row(
    node: FakeNode, client: cache.CacheClient, shards: Shards
) -> None:
    node.answering = lambda its, get: its.answer_ring(get, bytes(get.length)) or True  # type: ignore[func-returns-value]
    with pytest.raises(CorruptDataError, match=r"row 0 of the shard \(row 0 of the dataset\)"):
        read_all(shards, client)
    assert [get.flags for get in node.gets][-1] & BY_RING


@pytest.mark.parametrize(
    ("code", "error"),
    [(1, DaemonUnavailableError), (2, DaemonUnavailableError), (3, ConfigError), (4, OriginError), (5, OriginError),
     (6, OriginError), (7, CorruptDataError), (8, CacheFullError), (9, OriginError), (11, FastfeedError),
     (12, ConfigError), (99, DaemonUnavailableError)],
)  # fmt: skip
def test_what_the_daemon_answers_is_raised_with_its_text(
    node: FakeNode, client: cache.CacheClient, shards: Shards, code: int, error: type[Exception]
) -> None:
    node.answering = lambda its, get: its.answer_error(get, code, "s3://b/k: gone. Do this.") or True  # type: ignore[func-returns-value]
    for read in (lambda: client.read(SET, 0, 0, 10), lambda: read_all(shards, client)):
        with pytest.raises(error, match=r"s3://b/k: gone\. Do this\."):
            read()


def test_a_daemon_that_drains_is_asked_again_by_its_successor(node: FakeNode, client: cache.CacheClient) -> None:
    seen = threading.Event()

    def drain(its: FakeNode, get: Get) -> bool:
        its.answer_error(get, 10, "draining")
        seen.set()
        return True

    def succeed() -> None:
        assert seen.wait(20)
        node.stop()
        node.answering = None
        assert client.wait_detached(20)
        node.connect(client, SET)

    node.answering = drain
    successor = threading.Thread(target=succeed)
    successor.start()
    try:
        assert client.read(SET, 0, 0, 1000) == node.objects[0][:1000]
    finally:
        successor.join()
    assert client.stats()["sessions"] == 2


def test_a_malformed_answer_ends_the_session_and_not_the_read(node: FakeNode, client: cache.CacheClient) -> None:
    seen = threading.Event()

    def talk_nonsense(its: FakeNode, get: Get) -> bool:
        its.send(0x12, get.id, struct.pack("<QI", (8 << 20) - 5, get.length))  # outside the ring
        seen.set()
        return True

    node.answering = talk_nonsense
    result: list[bytes] = []
    reading = threading.Thread(target=lambda: result.append(client.read(SET, 0, 10, 100)))
    reading.start()
    assert client.wait_detached(20)
    assert not client.attached
    node.answering = None
    node.connect(client, SET)
    reading.join()
    assert result == [node.objects[0][10:110]]


def test_without_a_daemon_hits_go_on_and_misses_say_what_to_do(node: FakeNode, client: cache.CacheClient) -> None:
    node.fill(0, 0)
    node.stop()
    assert client.wait_detached(20)
    assert client.read(SET, 0, 0, 100) == node.objects[0][:100]
    with pytest.raises(DaemonUnavailableError, match=r"within 0\.2 s: no daemon is connected"):
        client.read(SET, 1, 0, 100, 0.2)


def test_a_disk_that_fails_is_complained_about_and_not_asked_twice(
    tmp_path: Path, shards: Shards, node: FakeNode
) -> None:
    node.fill_all()
    client = cache.CacheClient(slab_io="fault:E")
    try:
        node.connect(client, SET)
        assert read_all(shards, client) == local(shards)
        assert {get.flags for get in node.gets} == {BY_RING | BAD_SLOT}
        assert client.stats()["slab_reads"] == 0
    finally:
        client.close()


def test_a_disk_that_hangs_costs_one_wait_and_no_wrong_byte(shards: Shards, node: FakeNode) -> None:
    node.fill_all()
    client = cache.CacheClient(slab_io="fault:h", slab_read_s=0.1)
    try:
        node.connect(client, SET)
        begun = time.monotonic()
        for _ in range(5):
            assert client.read(SET, 0, 0, 3000) == node.objects[0][:3000]
            assert read_all(shards, client) == local(shards)
        assert time.monotonic() - begun < 1.9  # the disk needs 2 s a read
        assert client.stats()["slab_reads_given_up"] >= 1
        assert {get.flags for get in node.gets} == {BY_RING}
    finally:
        client.close()
    deadline = time.monotonic() + 30
    while b"ff-slab" in threads() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert b"ff-slab" not in threads()  # the disk has answered, and its threads have ended


def threads() -> list[bytes]:
    names = []
    for task in Path("/proc/self/task").iterdir():
        try:
            names.append((task / "comm").read_bytes().strip())
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise
    return names


def test_a_signal_ends_a_read_that_waits(node: FakeNode, client: cache.CacheClient) -> None:
    class Stop(Exception):
        pass

    def stop(number: int, frame: object) -> None:
        raise Stop

    node.answering = lambda its, get: signal.raise_signal(signal.SIGUSR1) or True  # type: ignore[func-returns-value]
    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(Stop):
            client.read(SET, 0, 0, 10)
        node.answering = None
        assert client.read(SET, 0, 0, 10) == node.objects[0][:10]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_forked_child_makes_its_own(node: FakeNode, client: cache.CacheClient, shards: Shards) -> None:
    child = os.fork()
    if child == 0:
        try:
            client.read(SET, 0, 0, 1)
        except FastfeedError as error:
            client.close()
            os._exit(0 if "makes its own" in str(error) else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.read(SET, 0, 0, 1) == node.objects[0][:1]


def test_sets_are_what_they_were_or_an_error(node: FakeNode, client: cache.CacheClient, shards: Shards) -> None:
    with pytest.raises(ConfigError, match="objects of other sizes"):
        client.set_attached(SET, 1, node.map_fd, node.sizes[:1])
    with pytest.raises(ConfigError, match="no set 8"):
        client.read(8, 0, 0, 1)
    with pytest.raises(ConfigError, match="at 0 of an object of"):
        client.read(SET, 0, 0, len(node.objects[0]) + 1)
    other = row_shards(shards.root, [COLUMN], [[[b"x"]]])
    with pytest.raises(ConfigError, match="not the 1 shards of this snapshot"):
        other.snapshot(cache=(client, SET))
    assert client.read(SET, 0, 5, 0) == b""
    client.set_detached(SET)
    with pytest.raises(ConfigError, match="no set 3"):
        shards.snapshot(cache=(client, SET))


def test_a_reader_whose_client_was_closed_says_so(node: FakeNode, client: cache.CacheClient, shards: Shards) -> None:
    reader = Reader(shards.snapshot(cache=(client, SET)), [COLUMN.output(0)])
    client.close()
    client.close()
    with pytest.raises(ConfigError, match="it was closed"):
        reader.take(rows())
    with pytest.raises(FastfeedError, match="closed"):
        node.connect(client, SET)
