"""The daemon's pure parts: queues, rings' space, ranges, buffers, keys, threads of disks, peers, troubles."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import socket
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastfeed._native.checksum import crc32c
from fastfeed.daemon.allocation import keep_freed_memory
from fastfeed.daemon.buffers import Buffers
from fastfeed.daemon.control import ControlConnection, Outcome
from fastfeed.daemon.disk_threads import DiskThread
from fastfeed.daemon.exact_ranges import ExactRanges
from fastfeed.daemon.fair_queue import FairQueue
from fastfeed.daemon.objects import CachedObject, object_key, shard_version
from fastfeed.daemon.open_files import allow_many_open_files
from fastfeed.daemon.packets import UNSENT_BYTES_MAX, UNSENT_DESCRIPTORS_MAX, PacketConnection
from fastfeed.daemon.peers import peer_of
from fastfeed.daemon.ring_space import LINE_BYTES, RingSpace
from fastfeed.daemon.troubles import TROUBLES_MAX, Troubles
from fastfeed.wire import messages as m
from fastfeed.wire.framing import ErrorCode, unpack_frame
from fastfeed.wire.hot import CHUNK_BYTES, Error


class TestFairQueue:
    def test_lanes_take_turns_and_each_keeps_its_order(self) -> None:
        queue: FairQueue[str] = FairQueue()
        for item in ("a1", "a2", "a3", "b1", "c1", "c2"):
            queue.push(item[0], item)
        assert [queue.pop()[1] for _ in range(6)] == ["a1", "b1", "c1", "a2", "c2", "a3"]
        assert not queue

    def test_what_is_put_back_comes_next(self) -> None:
        queue: FairQueue[str] = FairQueue()
        queue.push("a", "a1")
        queue.push("b", "b1")
        lane, item = queue.pop()
        queue.push_first(lane, item)
        assert len(queue) == 2
        assert queue.pop() == ("a", "a1")

    def test_a_lane_is_dropped_whole(self) -> None:
        queue: FairQueue[int] = FairQueue()
        queue.push("a", 1)
        queue.push("a", 2)
        assert queue.drop("a") == [1, 2]
        assert queue.drop("a") == []
        with pytest.raises(IndexError):
            queue.pop()


class TestRingSpace:
    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 5000), st.integers(0, 99)), max_size=80))
    def test_what_is_taken_never_overlaps_and_all_of_it_comes_back(self, steps: list[tuple[bool, int, int]]) -> None:
        space = RingSpace(16 * 1024)
        taken: list[tuple[int, int]] = []
        for takes, length, which in steps:
            if takes and (at := space.take(length)) is not None:
                assert at % LINE_BYTES == 0
                assert at + length <= 16 * 1024
                assert all(at >= other + size or at + length <= other for other, size in taken)
                taken.append((at, length))
            elif not takes and taken:
                space.give_back(*taken.pop(which % len(taken)))
        for each in taken:
            space.give_back(*each)
        assert space.taken_bytes == 0
        assert space.take(16 * 1024) == 0

    def test_half_a_ring_of_any_answers_always_fits_beside_what_is_read_in_turn(self) -> None:
        """What a client that keeps to its half sees: answers of up to 1 MiB, released in about their order."""
        draw, space, taken = random.Random(2), RingSpace(8 << 20), []
        for _ in range(5000):
            length = draw.choice([10_000, 100_000, CHUNK_BYTES])
            while sum(size for _, size in taken) + length > 4 << 20:
                space.give_back(*taken.pop(0))
            at = space.take(length)
            assert at is not None
            taken.append((at, length))

    def test_a_ring_without_room_says_so(self) -> None:
        space = RingSpace(128)
        assert space.take(65) == 0
        assert space.take(1) is None


def demand(start: int, stop: int, key: bytes = b"k") -> Any:
    return SimpleNamespace(object=SimpleNamespace(key=key), start=start, stop=stop)


class TestExactRanges:
    def test_neighbours_are_gathered_and_others_left(self) -> None:
        ranges = ExactRanges()
        near = [demand(0, 10), demand(12, 20), demand(15, 30)]
        far, other = demand(1000, 1010), demand(11, 12, b"o")
        for each in (*near, far, other):
            ranges.add(each)
        assert ranges.gather(near[1], 5, 1000) == near
        assert ranges.find(b"k", 12, 20) is near[1]  # running, not queued
        ranges.put_back(near)
        assert ranges.gather(far, 5, 1000) == [far]
        assert ranges.gather(near[0], 5, 25) == near[:2]
        for each in (*near, far, other):
            ranges.discard(each)
        assert len(ranges) == 0

    @given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 60)), min_size=1, max_size=30, unique=True))
    def test_every_range_is_gathered_once_and_its_bytes_are_fetched(self, spans: list[tuple[int, int]]) -> None:
        ranges = ExactRanges()
        waiting = {(start, start + length): demand(start, start + length) for start, length in spans}
        for each in waiting.values():
            ranges.add(each)
        while waiting:
            run = ranges.gather(next(iter(waiting.values())), 8, 200)
            assert run[-1].stop == max(each.stop for each in run)
            assert run[0].start == min(each.start for each in run)
            assert run[-1].stop - run[0].start <= 200
            for each in run:
                del waiting[each.start, each.stop]
                ranges.discard(each)
        assert len(ranges) == 0


def test_buffers_take_anything_when_they_are_empty_and_tell_when_there_is_room() -> None:
    buffers, told = Buffers(100), []
    buffers.call_on_room(lambda: told.append(buffers.used_bytes))
    assert buffers.take(500)
    assert not buffers.take(1)
    buffers.give_back(500)
    assert told == [0]
    assert buffers.take(40)
    assert not buffers.take(20, share=0.5)
    assert buffers.take(60)


class TestObjects:
    def test_parts_of_a_key_cannot_be_shifted_into_each_other(self) -> None:
        assert object_key("p", "e", "uv", "w") != object_key("p", "e", "u", "vw")
        assert object_key("p", "e", "u", "v") != object_key("q", "e", "u", "v")
        assert len(object_key("", "", "", "")) == 16

    def test_a_shards_version_changes_with_all_that_is_said_of_its_bytes(self) -> None:
        sums = np.array([1, 2], np.uint32)
        versions = {
            shard_version(b"h" * 16, 100, 90, sums),
            shard_version(b"i" * 16, 100, 90, sums),
            shard_version(b"h" * 16, 101, 90, sums),
            shard_version(b"h" * 16, 100, 91, sums),
            shard_version(b"h" * 16, 100, 90, sums + 1),
        }
        assert len(versions) == 5

    def test_chunks_are_checked_as_far_as_the_index_covers_them(self) -> None:
        data = random.Random(1).randbytes(CHUNK_BYTES + 500)
        covered = CHUNK_BYTES + 100
        sums = np.array([crc32c(data[:CHUNK_BYTES]), crc32c(data[CHUNK_BYTES:covered])], np.uint32)
        made = CachedObject(b"k", "u", None, "p", len(data), checksums=sums, covered_bytes=covered)  # type: ignore[arg-type]
        assert made.chunks == 2
        assert made.chunk_bytes(1) == 500
        assert made.is_right(0, data[:CHUNK_BYTES])
        assert made.is_right(1, data[CHUNK_BYTES:])
        assert not made.is_right(0, b"x" + data[1:CHUNK_BYTES])
        assert not made.is_right(1, b"x" + data[CHUNK_BYTES + 1 :])
        assert made.is_right(1, data[CHUNK_BYTES:covered] + b"y" * 400)
        assert made.verifies(1)
        assert not made.verifies(2)
        assert made.is_right(2, b"whatever")


class TestDiskThreads:
    def test_work_is_done_in_order_and_its_results_come_to_the_loop(self) -> None:
        async def run() -> None:
            loop, results = asyncio.get_running_loop(), []
            thread, ended = DiskThread(loop, "test"), asyncio.Event()
            for number in range(5):
                thread.submit(lambda number=number: number * number, lambda result, error: results.append(result))
            thread.submit(lambda: 1 / 0, lambda result, error: (results.append(error), ended.set()))
            await ended.wait()
            assert results[:5] == [0, 1, 4, 9, 16]
            assert isinstance(results[5], ZeroDivisionError)
            assert thread.queued == 0
            assert thread.busy_s == 0.0
            assert await thread.call(lambda: 7, 5) == 7
            assert thread.close(5)

        asyncio.run(run())

    def test_what_goes_wrong_after_one_piece_of_work_is_not_the_next_ones_trouble(self) -> None:
        async def run() -> None:
            loop = asyncio.get_running_loop()
            told: list[str] = []
            loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
            thread = DiskThread(loop, "test")

            def fail(result: object, error: BaseException | None) -> None:
                raise ValueError("unforeseen")

            go = threading.Event()
            thread.submit(lambda: go.wait(5), fail)
            other = loop.create_task(thread.call(lambda: 2, 5))
            await asyncio.sleep(0)
            go.set()
            assert thread.close(5)
            assert await other == 2
            assert told == ["unforeseen"]
            assert thread.queued == 0

        asyncio.run(run())

    def test_a_thread_that_hangs_is_not_waited_for_and_what_waits_is_taken_back(self) -> None:
        async def run() -> None:
            thread, go, given_up = DiskThread(asyncio.get_running_loop(), "test"), threading.Event(), []
            hanging = asyncio.ensure_future(thread.call(go.wait, 0.02))
            await asyncio.sleep(0)
            thread.submit(lambda: None, lambda result, error: given_up.append(error))
            with pytest.raises(TimeoutError):
                await hanging
            assert thread.busy_s > 0
            assert len(thread.give_up_queued()) == 1
            assert not thread.close(0.01)
            go.set()
            assert thread.close(5)

        asyncio.run(run())


def _open_count() -> int:
    return len(os.listdir("/proc/self/fd"))


class TestPackets:
    def test_a_client_that_takes_nothing_is_not_read_from_and_then_ended(self) -> None:
        async def run() -> None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                ended: list[str] = []
                got: list[bytes] = []
                connection = PacketConnection(asyncio.get_running_loop(), ours, got.extend, ended.append)
                connection.start()
                theirs.send(b"one")
                theirs.send(b"two")
                await asyncio.sleep(0.01)
                assert got == [b"one", b"two"]
                while not connection.is_congested:
                    connection.send(b"x" * 60_000)
                theirs.send(b"three")
                await asyncio.sleep(0.01)
                assert len(got) == 2
                read, write = os.pipe()
                connection.send(b"y", [read])
                connection.check(float("inf"))
                assert ended
                assert "has taken no answer" in ended[0]
                assert connection.is_closed
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.fstat(read)
                os.close(write)
                connection.send(b"to nobody")
                connection.close()

        asyncio.run(run())

    def test_a_client_that_leaves_its_descriptors_unread_is_read_from_no_more(self) -> None:
        """They are the daemon's own until they are sent, and it has not many."""

        async def run() -> None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                got: list[bytes] = []
                connection = PacketConnection(asyncio.get_running_loop(), ours, got.extend, lambda why: None)
                connection.start()
                before, sent = _open_count(), 0
                while not connection.is_congested:
                    connection.send(b"here", [os.open(os.devnull, os.O_RDONLY)])
                    sent += 1
                theirs.send(b"more")
                await asyncio.sleep(0.01)
                assert got == []
                assert _open_count() - before <= UNSENT_DESCRIPTORS_MAX
                theirs.setblocking(False)
                for _ in range(sent):
                    await asyncio.get_running_loop().sock_recv(theirs, 100)
                await asyncio.sleep(0.01)
                assert got == [b"more"]
                assert _open_count() == before
                connection.close()

        asyncio.run(run())

    def test_answers_beyond_the_limit_end_the_connection(self) -> None:
        async def run() -> None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                ended: list[str] = []
                connection = PacketConnection(asyncio.get_running_loop(), ours, lambda packets: None, ended.append)
                for _ in range(UNSENT_BYTES_MAX // 60_000 * 2 + 50):
                    connection.send(b"x" * 60_000)
                assert ended

        asyncio.run(run())

    def test_what_was_kept_is_sent_when_the_client_reads(self) -> None:
        async def run() -> None:
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                theirs.setblocking(False)
                connection = PacketConnection(loop, ours, lambda packets: None, lambda why: None)
                connection.start()
                sent = 0
                while not connection.is_congested:
                    connection.send(bytes([sent % 251]) * 30_000)
                    sent += 1
                for number in range(sent):
                    assert (await loop.sock_recv(theirs, 65_536))[0] == number % 251
                await asyncio.sleep(0)
                assert not connection.is_congested
                connection.close()

        asyncio.run(run())


def test_a_control_request_that_fails_as_nobody_foresaw_is_answered_and_the_next_one_too() -> None:
    async def handle(message: m.Message) -> Outcome:
        if isinstance(message, m.Head):
            raise RuntimeError("unforeseen")
        return Outcome.of(m.Done())

    async def run() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.setblocking(False)
            control = ControlConnection(loop, handle)
            connection = PacketConnection(loop, ours, control.on_packets, lambda why: None)
            control.connect(connection)
            connection.start()
            theirs.send(m.pack(m.Head(url="s3://bucket/x", deadline_ms=5000), 1))
            theirs.send(m.pack(m.Ping(), 2))
            answers = [unpack_frame(await asyncio.wait_for(loop.sock_recv(theirs, 65_536), 5)) for _ in range(2)]
            first, second = map(m.unpack, answers)
            assert [each.request for each in answers] == [1, 2]
            assert isinstance(first, Error)
            assert (first.code, "unforeseen" in first.text) == (ErrorCode.INTERNAL, True)
            assert second == m.Done()
            connection.close()

    asyncio.run(run())


def test_a_daemon_may_have_as_many_open_files_as_the_system_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        assert allow_many_open_files() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert os.getegid() in peer.gids
    assert set(os.getgroups()) <= peer.gids
    assert peer.is_known
    assert not peer._replace(uid=65534).is_known
    assert str(os.getpid()) in str(peer)


def test_the_same_trouble_is_told_once_with_how_often() -> None:
    troubles = Troubles()
    for _ in range(3):
        troubles.add("disk a", "EIO")
    for number in range(TROUBLES_MAX + 5):
        troubles.add("origin", f"{number}")
    troubles.add("disk a", "EIO")
    assert troubles.newest()[0].text == "EIO"
    assert len(troubles.newest()) == TROUBLES_MAX
    troubles.add("disk a", "EIO")
    assert troubles.newest()[0].count == 2


def test_freed_memory_is_kept_where_the_c_library_can() -> None:
    assert keep_freed_memory() in (True, False)
