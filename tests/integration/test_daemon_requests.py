"""What a client process gets of a running daemon: its socket, its data connection, its answers."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastfeed.storage.faulty_origin import FaultyOrigin
from fastfeed.storage.protocol import Origin, Piece
from fastfeed.wire import messages as m
from fastfeed.wire.framing import ErrorCode, pack_frame
from fastfeed.wire.hot import CHUNK_BYTES, Error, Get, GetFlag, InRing, InSlot, Release, pack_hot
from tests.helpers.raw_client import RawClient, RawConnection, hello
from tests.helpers.running_daemon import RunningDaemon

SIZE = 3 * CHUNK_BYTES + 12345
DATA = random.Random(5).randbytes(SIZE)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RunningDaemon]:
    with RunningDaemon(tmp_path, {"data.bin": DATA, "empty": b""}) as running:
        yield running


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[RawClient]:
    with RawClient(daemon.socket) as attached:
        attached.open_url(daemon.url("data.bin"))
        yield attached


def wait_kept(daemon: RunningDaemon, chunks: int) -> None:
    daemon.wait(lambda: daemon.service.pool.stats().published_slots == chunks, "the chunks were written")


class TestMisses:
    def test_a_miss_comes_by_the_ring_and_then_from_a_slot(self, daemon: RunningDaemon, client: RawClient) -> None:
        request = client.get(100, 5000)
        number, answer = client.answer()
        assert number == request
        assert isinstance(answer, InRing)
        assert client.bytes_of(answer, 100, 5000) == DATA[100:5100]
        client.data.send(pack_hot(Release(), request))
        wait_kept(daemon, 1)
        client.get(100, 5000)
        _, answer = client.answer()
        assert isinstance(answer, InSlot)
        assert client.bytes_of(answer, 100, 5000) == DATA[100:5100]

    def test_the_last_chunk_is_as_long_as_the_object(self, daemon: RunningDaemon, client: RawClient) -> None:
        assert client.read(SIZE - 12345, 12345) == DATA[-12345:]
        wait_kept(daemon, 1)
        assert client.read(SIZE - 45, 45) == DATA[-45:]

    def test_each_chunk_is_fetched_once_however_many_ask(self, daemon: RunningDaemon, client: RawClient) -> None:
        with RawClient(daemon.socket) as other:
            other.open_url(daemon.url("data.bin"))
            for offset in range(0, SIZE, 90_000):
                for asking in (client, other):
                    asking.get(offset, min(1000, SIZE - offset, CHUNK_BYTES - offset % CHUNK_BYTES))
            for asking in (client, other):
                for _ in range(0, SIZE, 90_000):
                    asking.answer()
        assert daemon.service.counters.demand_bytes == SIZE
        assert daemon.service.sources.find(daemon.url("x")).source.origin.counters.read_bytes == SIZE

    def test_neighbours_that_are_missed_together_come_in_one_request(
        self, daemon: RunningDaemon, client: RawClient
    ) -> None:
        client.data.send(pack_hot(Get(set=0, object=0, offset=0, length=1, deadline_ms=9999), 1000))
        for chunk in range(1, 4):
            client.get(chunk * CHUNK_BYTES, 10)
        for _ in range(4):
            client.answer()
        fetches = [path for operation, path in daemon.origin.calls if operation == "get_range"]
        assert len(fetches) <= 2

    def test_bytes_are_read_by_the_ring_where_a_race_was_lost(self, daemon: RunningDaemon, client: RawClient) -> None:
        client.read(0, 10)
        wait_kept(daemon, 1)
        client.get(500_000, 70_000, flags=GetFlag.BY_RING)
        _, answer = client.answer()
        assert isinstance(answer, InRing)
        assert client.bytes_of(answer, 500_000, 70_000) == DATA[500_000:570_000]
        assert daemon.service.counters.demand_bytes == CHUNK_BYTES

    def test_a_pool_without_slots_gives_exact_bytes(self, tmp_path: Path) -> None:
        with RunningDaemon(tmp_path, {"data.bin": DATA}, limit="0") as daemon, RawClient(daemon.socket) as client:
            client.open_url(daemon.url("data.bin"))
            assert client.layout.slabs == ()
            for _ in range(2):
                assert client.read(1234, 4321) == DATA[1234:5555]
            assert daemon.service.counters.exact_bytes == 2 * 4321

    def test_a_cold_start_gets_exact_bytes_first_and_each_chunk_once(self, tmp_path: Path) -> None:
        data = random.Random(1).randbytes(40 * CHUNK_BYTES)
        with RunningDaemon(tmp_path, {"big": data}, limit="64MiB") as daemon, RawClient(daemon.socket) as client:
            client.open_url(daemon.url("big"))
            for chunk in range(40):
                client.get(chunk * CHUNK_BYTES + 7, 100)
            for _ in range(40):
                number, answer = client.answer()
                offset = (number - 1) * CHUNK_BYTES + 7
                assert client.bytes_of(answer, offset, 100) == data[offset : offset + 100]
            assert 0 < daemon.service.counters.exact_bytes < 0.05 * len(data)
            for chunk in range(40):
                assert client.read(chunk * CHUNK_BYTES + 9, 50) == data[chunk * CHUNK_BYTES + 9 :][:50]
            assert daemon.service.counters.demand_bytes <= 1.05 * len(data)


    def test_who_waits_for_one_origin_holds_back_no_prefetch_from_another(self, tmp_path: Path) -> None:
        """The first origin hangs, with one more request waiting behind; a file of another one is warmed meanwhile."""
        flags = {"origin.in_flight": "1"}
        with (
            RunningDaemon(tmp_path, {"data.bin": DATA}, flags=flags, scripts={"get_range": "h"}) as daemon,
            RawClient(daemon.socket) as client,
        ):
            client.open_url(daemon.url("data.bin"))
            client.open_url("s3://elsewhere/data.bin", number=1)
            for chunk in (0, 2):
                client.get(chunk * CHUNK_BYTES, 100)
            first, other = daemon.service.sources
            daemon.wait(lambda: (first.running, len(first.demand)) == (1, 1), "one runs and one waits")

            def warm() -> None:
                (session,) = daemon.daemon.server.sessions.values()  # type: ignore[union-attr]
                daemon.service.warming.start(session.sets[1], other.name, None)
                daemon.service.fetcher.wake()

            daemon.call(warm)
            wait_kept(daemon, 4)
            assert len(first.demand) == 1


class TestTheRing:
    def test_who_does_not_release_waits_for_itself_alone(self, daemon: RunningDaemon, client: RawClient) -> None:
        """8 MiB of ring, and 12 answers of 1 MiB that nobody releases."""
        with RawClient(daemon.socket) as other:
            other.open_url(daemon.url("data.bin"))
            for _ in range(12):
                client.get(0, CHUNK_BYTES, flags=GetFlag.BY_RING)
            answered = [client.answer()[0] for _ in range(8)]
            assert other.read(5, 5) == DATA[5:10]
            for number in answered[:4]:
                client.data.send(pack_hot(Release(), number))
            assert len({client.answer()[0] for _ in range(4)} | set(answered)) == 12

    def test_who_had_no_room_gets_its_bytes_by_the_ring_after_one_more_fetch_at_most(self, tmp_path: Path) -> None:
        """Not a slot's place, however often the chunk is in one by then: a slot may be lost once more."""
        with (
            RunningDaemon(tmp_path, {"data.bin": DATA}, flags={"limits.ring": "2MiB"}) as daemon,
            RawClient(daemon.socket) as client,
        ):
            client.open_url(daemon.url("data.bin"))
            numbers = [client.get(chunk * CHUNK_BYTES, CHUNK_BYTES) for chunk in range(3)]
            answered = [client.answer() for _ in range(2)]
            wait_kept(daemon, 3)
            client.data.send(pack_hot(Release(), answered[0][0]))  # type: ignore[union-attr]
            last, answer = client.answer()
            assert isinstance(answer, InRing)
            assert {number for number, _ in answered} | {last} == set(numbers)
            chunk = numbers.index(last)
            data = DATA[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES]
            assert client.bytes_of(answer, 0, CHUNK_BYTES) == data
            assert daemon.service.counters.request_fetches_max == 1

    def test_bytes_that_had_no_room_and_are_in_no_slot_are_fetched_twice_and_not_more(self, tmp_path: Path) -> None:
        flags = {"limits.ring": "2MiB"}
        with (
            RunningDaemon(tmp_path, {"data.bin": DATA}, limit="0", flags=flags) as daemon,
            RawClient(daemon.socket) as client,
        ):
            client.open_url(daemon.url("data.bin"))
            numbers = {client.get(0, CHUNK_BYTES - each) for each in range(6)}
            for _ in range(6):
                number, _ = client.answer()
                client.data.send(pack_hot(Release(), number))  # type: ignore[union-attr]
                numbers.discard(number)
            assert not numbers
            assert daemon.service.counters.request_fetches_max == 2

    def test_room_that_a_failed_request_gives_back_goes_to_the_next_that_waits(self, tmp_path: Path) -> None:
        flags = {"limits.ring": "2MiB"}
        scripts = {"get_range": "....d"}
        with (
            RunningDaemon(tmp_path, {"data.bin": DATA}, limit="0", flags=flags, scripts=scripts) as daemon,
            RawClient(daemon.socket) as client,
        ):
            client.open_url(daemon.url("data.bin"))
            asked = []
            for chunk in range(4):
                asked.append(client.get(chunk * CHUNK_BYTES, CHUNK_BYTES if chunk < 3 else 1))
                if chunk < 2:
                    assert client.answer()[0] == asked[-1]
                daemon.wait(lambda: len(daemon.origin.calls) == 2 + chunk, "the fetch")  # noqa: B023
            client.data.send(pack_hot(Release(), asked[0]))  # type: ignore[union-attr]
            denied, given = client.answer(), client.answer()
            assert (denied[0], type(denied[1])) == (asked[2], Error)
            assert (given[0], type(given[1])) == (asked[3], InRing)

    def test_an_error_that_nobody_foresaw_is_an_answer_and_the_chunk_is_fetched_when_it_is_asked_for_again(
        self, tmp_path: Path
    ) -> None:
        with RunningDaemon(tmp_path, {"data.bin": DATA}) as daemon, RawClient(daemon.socket) as client:
            daemon.origin = BrokenOnce(daemon.memory)
            client.open_url(daemon.url("data.bin"))
            error = client.error(0, 100)
            assert (error.code, "report it" in error.text) == (ErrorCode.INTERNAL, True)
            assert client.read(0, 100) == DATA[:100]
            assert daemon.call(lambda: daemon.daemon.buffers.used_bytes <= CHUNK_BYTES)  # type: ignore[union-attr]

    def test_a_deadline_is_an_answer(self, tmp_path: Path) -> None:
        scripts = {"get_range": "h"}
        with RunningDaemon(tmp_path, {"data.bin": DATA}, scripts=scripts) as daemon, RawClient(daemon.socket) as client:
            client.open_url(daemon.url("data.bin"))
            error = client.error(0, 10, deadline_ms=50)
            assert error.code == ErrorCode.TIMEOUT
            assert "no bytes in time" in error.text

    def test_requests_beyond_the_limit_wait_in_the_socket(self, tmp_path: Path) -> None:
        flags = {"limits.requests_per_client": "4"}
        with RunningDaemon(tmp_path, {"data.bin": DATA}, flags=flags) as daemon, RawClient(daemon.socket) as client:
            client.open_url(daemon.url("data.bin"))
            for _ in range(60):
                client.get(0, 10)
            assert {client.answer()[0] for _ in range(60)} == set(range(1, 61))


class TestNonsense:
    @pytest.mark.parametrize(
        ("packet", "code"),
        [
            (b"\x10\x00", ErrorCode.MALFORMED),
            (pack_frame(0x10, 7, b"short"), ErrorCode.MALFORMED),
            (pack_frame(0x77, 7), ErrorCode.UNSUPPORTED),
            (pack_hot(Get(set=9, object=0, offset=0, length=1, deadline_ms=99), 7), ErrorCode.NOT_FOUND),
            (pack_hot(Get(set=0, object=1, offset=0, length=1, deadline_ms=99), 7), ErrorCode.MALFORMED),
            (pack_hot(Get(set=0, object=0, offset=SIZE, length=1, deadline_ms=99), 7), ErrorCode.MALFORMED),
            (pack_hot(InSlot(entry=1), 7), ErrorCode.MALFORMED),
            (pack_hot(Release(), 7), ErrorCode.MALFORMED),
        ],
    )
    def test_a_bad_packet_is_answered_and_the_next_one_served(
        self, client: RawClient, packet: bytes, code: ErrorCode
    ) -> None:
        client.data.send(packet)
        _, answer = client.answer()
        assert isinstance(answer, Error)
        assert answer.code == code
        assert client.read(0, 100) == DATA[:100]

    def test_a_number_is_not_asked_twice_at_a_time(self, client: RawClient) -> None:
        get = pack_hot(Get(set=0, object=0, offset=0, length=10, deadline_ms=9999), 77)
        client.data.send(get)
        client.answer()
        client.data.send(get)
        _, answer = client.answer()
        assert isinstance(answer, Error)
        client.data.send(pack_hot(Release(), 77))
        client.data.send(get)
        assert isinstance(client.answer()[1], InRing | InSlot)

    def test_a_connection_begins_with_hello(self, daemon: RunningDaemon) -> None:
        connection = RawConnection(daemon.socket)
        answer, _ = connection.ask(m.Ping())
        assert isinstance(answer, Error)
        with pytest.raises(EOFError):
            connection.receive()
        connection.close()

    def test_a_version_that_nobody_speaks_is_refused(self, daemon: RunningDaemon) -> None:
        connection = RawConnection(daemon.socket)
        answer, _ = connection.ask(m.Hello(version_min=900, version_max=901, kind=1))
        assert isinstance(answer, Error)
        assert answer.code == ErrorCode.UNSUPPORTED
        assert "900 to 901" in answer.text
        connection.close()

    def test_a_data_connection_needs_the_token_of_a_session(self, daemon: RunningDaemon) -> None:
        connection = RawConnection(daemon.socket)
        answer, descriptors = connection.ask(hello(m.Kind.DATA, b"0" * 16))
        assert isinstance(answer, Error)
        assert answer.code == ErrorCode.DENIED
        assert not descriptors
        connection.close()


class BrokenOnce(FaultyOrigin):
    """Its first read ends in an error that no origin has."""

    def __init__(self, inner: Origin) -> None:
        super().__init__(inner, {})
        self._is_broken = True

    async def get_range(self, path: str, start: int, stop: int, *, etag: str | None = None) -> Piece:
        if self._is_broken:
            self._is_broken = False
            raise RuntimeError("unforeseen")
        return await super().get_range(path, start, stop, etag=etag)


class TestControl:
    def test_requests_are_answered_in_their_order(self, client: RawClient) -> None:
        for number in range(100, 150):
            client.control.send(m.pack(m.Ping(), number))
        assert [client.control.receive().frame.request for _ in range(50)] == list(range(100, 150))

    def test_a_file_is_a_sealed_memfd(self, daemon: RunningDaemon, client: RawClient) -> None:
        ask = m.File(url=daemon.url("data.bin"), deadline_ms=9999, size_bytes_max=1 << 30)
        answer, (descriptor,) = client.control.ask(ask)
        assert isinstance(answer, m.FileHere)
        assert answer.size_bytes == SIZE
        assert os.pread(descriptor, SIZE + 1, 0) == DATA
        reopened = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
        with pytest.raises(PermissionError):
            os.pwrite(reopened, b"x", 0)
        os.close(reopened)

    def test_a_file_is_read_once_and_again_when_it_was_replaced(
        self, daemon: RunningDaemon, client: RawClient
    ) -> None:
        ask = m.File(url=daemon.url("data.bin"), deadline_ms=9999, size_bytes_max=1 << 30)
        for _ in range(3):
            client.control.ask(ask)
        assert sum(operation == "get_range" for operation, _ in daemon.origin.calls) == 1
        daemon.put("data.bin", b"other")
        _, (descriptor,) = client.control.ask(ask)
        assert os.pread(descriptor, 100, 0) == b"other"

    def test_an_empty_file_is_a_file(self, daemon: RunningDaemon, client: RawClient) -> None:
        answer, (descriptor,) = client.control.ask(
            m.File(url=daemon.url("empty"), deadline_ms=9999, size_bytes_max=1 << 30)
        )
        assert isinstance(answer, m.FileHere)
        assert os.pread(descriptor, 1, 0) == b""

    @pytest.mark.parametrize(
        ("message", "code"),
        [
            (m.File(url="s3://bucket/none", deadline_ms=9999, size_bytes_max=9), ErrorCode.NOT_FOUND),
            (m.File(url="s3://bucket/data.bin", deadline_ms=9999, size_bytes_max=9), ErrorCode.CONFIG),
            (m.File(url="s3://bucket/data.bin", deadline_ms=9999, size_bytes=9, size_bytes_max=99), ErrorCode.CONFIG),
            (m.Head(url="gopher://bucket/x", deadline_ms=9999), ErrorCode.CONFIG),
            (m.Head(url="s3://bucket/../x", deadline_ms=9999), ErrorCode.CONFIG),
            (m.OpenUrl(set=1, url="s3://bucket/data.bin", etag="other", deadline_ms=9999), ErrorCode.ORIGIN_CHANGED),
            (m.OpenDataset(set=1, url="s3://bucket/x", snapshot=1, manifest_hash=b"0" * 16, deadline_ms=9999),
             ErrorCode.NOT_FOUND),
            (m.Register(set=9, recipe=b"{}"), ErrorCode.NOT_FOUND),
            (m.Register(set=0, recipe=b"{}"), ErrorCode.UNSUPPORTED),
            (m.Done(), ErrorCode.MALFORMED),
            (m.Ask(command=m.Command.STATUS, arguments=b"["), ErrorCode.CONFIG),
            (m.Ask(command=m.Command.STATUS, arguments=b"[]"), ErrorCode.CONFIG),
        ],
        ids=lambda value: type(value).__name__ if not isinstance(value, ErrorCode) else value.name,
    )  # fmt: skip
    def test_what_cannot_be_done_is_an_error_with_its_code(
        self, client: RawClient, message: m.Message, code: ErrorCode
    ) -> None:
        answer, _ = client.control.ask(message)
        assert isinstance(answer, Error), answer
        assert answer.code == code, answer.text

    def test_listings_heads_and_closing_of_sets_are_answered(self, daemon: RunningDaemon, client: RawClient) -> None:
        answer, _ = client.control.ask(m.List(url=daemon.url(""), deadline_ms=9999))
        assert isinstance(answer, m.Listed)
        assert answer.files == 2
        answer, _ = client.control.ask(m.Head(url=daemon.url("data.bin"), deadline_ms=9999))
        assert isinstance(answer, m.HeadOf)
        assert answer.size_bytes == SIZE
        assert client.control.ask(m.CloseSet(set=0))[0] == m.Done()
        assert client.error(0, 1).code == ErrorCode.NOT_FOUND
        assert not daemon.call(lambda: list(daemon.service.objects.sets))

    def test_everything_of_a_session_goes_with_its_control_connection(self, daemon: RunningDaemon) -> None:
        client = RawClient(daemon.socket)
        client.open_url(daemon.url("data.bin"))
        client.read(0, 10)
        client.control.close()
        with pytest.raises(EOFError):
            client.data.receive()
        daemon.wait(lambda: not daemon.daemon.server.sessions and not daemon.service.objects.sets, "the session ended")
        client.close()

    def test_hundreds_of_sessions_come_and_go_at_the_same_time(self, daemon: RunningDaemon) -> None:
        def come_and_go() -> None:
            for _ in range(5):
                with RawClient(daemon.socket) as client:
                    client.open_url(daemon.url("data.bin"))
                    assert client.read(77, 7) == DATA[77:84]

        threads = [threading.Thread(target=come_and_go) for _ in range(16)]
        before = len(os.listdir("/proc/self/fd"))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        daemon.wait(lambda: not daemon.daemon.server.sessions, "the sessions ended")
        assert len(os.listdir("/proc/self/fd")) <= before + 3
        assert daemon.service.counters.demand_bytes <= SIZE
