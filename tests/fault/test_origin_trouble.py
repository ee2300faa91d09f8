"""What goes wrong between us and a storage, with real connections: reading goes on where another attempt can help, and
is an error that says what to do where none can; never a hang, and no wrong byte that a length or an ETag could betray.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fastfeed.errors import OriginChangedError, OriginDeniedError, OriginError
from fastfeed.storage.options import OriginOptions
from fastfeed.storage.origins import open_origin, read_whole
from fastfeed.storage.steady import SteadyOrigin
from tests.helpers.faulty_http import FaultyHttp

DATA = os.urandom(1 << 20)
RANGE_BYTES = 64 << 10
# Attempts are given up early: the servers here answer within milliseconds, or never.
QUICK: dict[str, Any] = {"timeout_s": 0.5, "backoff_s": 0.01, "backoff_s_max": 0.1, "deadline_s": 20.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("origin")
    (folder / "shard.ffs").write_bytes(DATA)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[FaultyHttp]:
    with FaultyHttp(folder, seed=5) as server:
        yield server


async def read_all(origin: SteadyOrigin, path: str = "shard.ffs") -> bytes:
    """The object in 16 ranges at the same time, all of the version of the first answer."""
    etag = (await origin.head(path)).etag
    pieces = await asyncio.gather(
        *(origin.get_range(path, start, start + RANGE_BYTES, etag=etag) for start in range(0, len(DATA), RANGE_BYTES))
    )
    return b"".join(piece.data for piece in pieces)


def within(url: str, work: Callable[[SteadyOrigin], Any], **options: Any) -> tuple[Any, SteadyOrigin]:
    """The result of `work` on an origin that gives up early, and the origin for its counters."""

    async def use() -> Any:
        try:
            return await work(origin)
        finally:
            await origin.close()

    origin, _ = open_origin(url, OriginOptions(**{**QUICK, **options}))
    return asyncio.run(use()), origin


class TestWhatAnotherAttemptMends:
    @pytest.mark.parametrize("fault", ["503", "reset", "short", "hang", "trickle"])
    def test_does_not_reach_who_reads(self, server: FaultyHttp, fault: str) -> None:
        server.set(chances={fault: 0.3}, retry_after_s=0)
        found, origin = within(server.url, read_all, retries_max=30, in_flight_max=8)
        assert found == DATA
        assert server.counts()[fault] > 0
        assert origin.counters.retries > 0

    def test_a_hang_in_a_large_body_is_seen_as_soon_as_in_a_small_one(self, server: FaultyHttp, folder: Path) -> None:
        """At the default rate 8 MiB may take a minute; nothing at all may come for `timeout_s` only."""
        (folder / "large.ffs").write_bytes(DATA * 8)
        server.set(chances={"hang": 1.0})
        hung = server.counts()["hang"]

        async def read(origin: SteadyOrigin) -> bytes:
            begun = asyncio.create_task(origin.get_range("large.ffs", 0, 8 << 20))
            while server.counts()["hang"] == hung:
                await asyncio.sleep(0.01)
            server.set()
            return bytes((await begun).data)

        started = time.monotonic()
        found, origin = within(server.url, read, deadline_s=90.0)
        assert found == DATA * 8
        assert origin.counters.retries == 1
        assert time.monotonic() - started < 20 * QUICK["timeout_s"]

    def test_not_even_all_of_it_together(self, server: FaultyHttp) -> None:
        chances = {"503": 0.15, "429": 0.05, "reset": 0.1, "short": 0.1, "hang": 0.05}
        server.set(chances=chances, retry_after_s=0, delay_s=0.001)
        found, _ = within(server.url, read_all, retries_max=50)
        assert found == DATA

    def test_who_says_retry_after_is_asked_again_after_that_time(self, server: FaultyHttp) -> None:
        """obstore does not hand the header on: the answer is got by a plain request."""
        server.set(chances={"429": 1.0}, retry_after_s=2)

        async def read_while_it_recovers(origin: SteadyOrigin) -> float:
            begun_s = time.monotonic()
            reading = asyncio.create_task(origin.get_range("shard.ffs", 0, 100))
            while not origin.counters.throttled:
                await asyncio.sleep(0.005)
            server.set()
            asked = server.counts()["requests"]
            assert bytes((await reading).data) == DATA[:100]
            assert server.counts()["requests"] == asked + 1  # not asked in between
            return time.monotonic() - begun_s

        took_s, origin = within(server.url, read_while_it_recovers)
        assert took_s >= 2.0
        assert origin.counters.throttled == 1

    def test_a_server_that_comes_back_is_read_on(self, folder: Path) -> None:
        """Killed and started again on its port while ranges are read."""
        with FaultyHttp(folder) as first:
            port = first.port
            first.set(bytes_per_s=4e6)

            async def read_over_the_restart(origin: SteadyOrigin) -> bytes:
                reading = asyncio.create_task(read_all(origin))
                while origin.counters.read_bytes < len(DATA) // 8:
                    await asyncio.sleep(0.005)
                first.close()
                await asyncio.to_thread(restart)
                return await reading

            def restart() -> None:
                forwarder.start()

            with FaultyHttp(folder) as second:
                forwarder = Forwarder(port, second.port)
                try:
                    # The ETag is of the file's time: the same for both servers.
                    found, origin = within(f"http://127.0.0.1:{port}", read_over_the_restart, retries_max=50)
                finally:
                    forwarder.close()
        assert found == DATA
        assert origin.counters.retries > 0


class TestWhatNoAttemptMends:
    def test_a_storage_that_is_down_is_an_error_that_says_what_to_do(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
            with pytest.raises(OriginError, match=r"connection refused.*Is the storage up"):
                within(url, lambda origin: origin.head("any"), retries_max=2)

    def test_a_host_that_nobody_knows_is_named(self) -> None:
        with pytest.raises(OriginError, match=r"no-such-host\.invalid.*no such host"):
            within("http://no-such-host.invalid", lambda origin: origin.head("any"), retries_max=2)

    @pytest.mark.parametrize("fault", ["503", "hang", "reset", "trickle"])
    def test_a_storm_without_end_is_an_error_within_the_deadline(self, server: FaultyHttp, fault: str) -> None:
        server.set(chances={fault: 1.0}, retry_after_s=0)
        begun_s = time.monotonic()
        with pytest.raises(OriginError, match=r"failed \d+ times"):
            within(server.url, lambda origin: origin.get_range("shard.ffs", 0, 100_000), deadline_s=1.5, timeout_s=0.2)
        assert time.monotonic() - begun_s < 5.0

    def test_an_object_that_is_replaced_while_it_is_read_is_never_a_mixture(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(DATA)

        async def read_a_replaced_object(origin: SteadyOrigin) -> None:
            first = await origin.get_range("file", 0, 100)
            replacement = tmp_path / "new"
            replacement.write_bytes(DATA[::-1])
            replacement.replace(tmp_path / "file")
            with pytest.raises(OriginChangedError, match="open the dataset again"):
                await origin.get_range("file", 100, 200, etag=first.info.etag)

        with FaultyHttp(tmp_path) as server:
            within(server.url, read_a_replaced_object)

    def test_a_body_that_is_wrong_and_long_enough_is_for_checksums_to_find(self, server: FaultyHttp) -> None:
        """No origin can see it: every chunk and frame has a checksum above."""
        server.set(chances={"corrupt": 1.0})
        piece, _ = within(server.url, lambda origin: origin.get_range("shard.ffs", 0, 1000))
        assert sum((a ^ b).bit_count() for a, b in zip(bytes(piece.data), DATA[:1000], strict=True)) == 1


class TestAnswersOfAnS3Service:
    def test_credentials_that_have_expired_are_an_error_at_once(self) -> None:
        body = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
        with Scripted([(400, {}, body)] * 9) as service:
            with pytest.raises(OriginDeniedError, match=r"have expired.*Give new ones"):
                within("s3://bucket", lambda origin: origin.get_range("key", 0, 1), **service.options)
            assert len(service.paths) == 1

    def test_credentials_of_a_file_that_is_renewed_in_time_go_on(self, tmp_path: Path) -> None:
        file = tmp_path / "credentials"
        file.write_text("[default]\naws_access_key_id = old\naws_secret_access_key = x\n")
        expired = (400, {}, b"<Error><Code>ExpiredToken</Code></Error>")
        ok = (206, {"Content-Range": "bytes 0-0/5", "ETag": '"e"'}, b"x")

        async def read_over_the_renewal(origin: SteadyOrigin) -> bytes:
            reading = asyncio.create_task(origin.get_range("key", 0, 1))
            while not service.paths:
                await asyncio.sleep(0.002)
            file.write_text("[default]\naws_access_key_id = new\naws_secret_access_key = x\n")
            return bytes((await reading).data)

        with Scripted([expired, expired, ok]) as service:
            options = {"endpoint": service.options["endpoint"], "allow_http": True, "credentials_file": file}
            found, _ = within("s3://bucket", read_over_the_renewal, **options)
            assert found == b"x"
            assert "Credential=old/" in service.headers[0]["Authorization"]
            assert "Credential=new/" in service.headers[-1]["Authorization"]

    def test_slow_down_with_retry_after_is_waited_for(self) -> None:
        slow_down = (503, {"Retry-After": "1"}, b"<Error><Code>SlowDown</Code></Error>")
        ok = (206, {"Content-Range": "bytes 0-0/5", "ETag": '"e"'}, b"x")
        with Scripted([slow_down, slow_down, ok]) as service:
            begun_s = time.monotonic()
            piece, _ = within("s3://bucket", lambda origin: origin.get_range("key", 0, 1), **service.options)
            assert bytes(piece.data) == b"x"
            assert time.monotonic() - begun_s >= 1.0
            assert [path.split("?")[0] for path in service.paths] == ["/bucket/key"] * 3
            assert "X-Amz-Signature" in service.paths[1]  # the plain request is signed

    def test_a_server_that_ignores_ranges_is_told_apart(self) -> None:
        with Scripted([(200, {"ETag": '"e"'}, b"12345")] * 9) as service:
            with pytest.raises(OriginError, match="must answer ranges"):
                within("s3://bucket", lambda origin: origin.get_range("key", 0, 1), **service.options)
            assert len(service.paths) == 1

    def test_an_etag_that_the_server_does_not_compare_is_compared(self) -> None:
        other = (206, {"Content-Range": "bytes 0-0/5", "ETag": '"other"'}, b"x")
        with Scripted([other]) as service, pytest.raises(OriginChangedError, match="other"):
            within("s3://bucket", lambda origin: origin.get_range("key", 0, 1, etag='"mine"'), **service.options)

    def test_a_range_that_is_shorter_than_asked_for_is_an_error(self) -> None:
        short = (206, {"Content-Range": "bytes 0-1/2", "ETag": '"e"'}, b"xy")
        with Scripted([short] * 9) as service, pytest.raises(OriginChangedError, match="was replaced or cut"):
            within("s3://bucket", lambda origin: origin.get_range("key", 0, 5), **service.options)

    def test_a_whole_read_checks_the_size_that_it_was_told(self) -> None:
        head = (200, {"ETag": '"e"', "Last-Modified": "Mon, 23 Nov 2026 19:58:06 GMT"}, b"12")
        with Scripted([head]) as service, pytest.raises(OriginChangedError, match="has 2 bytes, and 5 were expected"):
            within("s3://bucket", lambda origin: read_whole(origin, "key", 5), **service.options)

    def test_signatures_are_not_in_messages(self) -> None:
        with Scripted([(418, {}, b"no")]) as service, pytest.raises(OriginError) as found:
            within("s3://bucket", lambda origin: origin.head("key"), **service.options)
        assert "Signature" not in str(found.value)

    def test_credentials_are_looked_for_in_a_file_that_may_be_missing(self, tmp_path: Path) -> None:
        with Scripted([]) as service:
            options = {"endpoint": service.options["endpoint"], "allow_http": True}
            with pytest.raises(OriginError, match=r"no credentials of profile 'default'"):
                within(
                    "s3://bucket",
                    lambda origin: origin.head("key"),
                    **options,
                    credentials_file=tmp_path / "none",
                    retries_max=0,
                )


class Scripted:
    """A service that gives these answers, one after the other: (status, headers, body)."""

    def __init__(self, answers: list[tuple[int, dict[str, str], bytes]]) -> None:
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        left = iter(answers)
        paths, seen = self.paths, self.headers

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                paths.append(self.path)
                seen.append({name.title(): value for name, value in self.headers.items()})
                status, headers, body = next(left, (500, {}, b""))
                self.send_response(status)
                for name, value in {"Last-Modified": "Mon, 23 Nov 2026 19:58:06 GMT", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                """Tests are quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def options(self) -> dict[str, Any]:
        return {
            "endpoint": f"http://127.0.0.1:{self._server.server_port}",
            "allow_http": True,
            "access_key_id": "key",
            "secret_access_key": "secret",
        }

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Forwarder:
    """Listens on `port` from start() on, and hands all connections to another."""

    def __init__(self, port: int, to: int) -> None:
        self._port, self._to = port, to
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._thread.start()
        listening = asyncio.start_server(self._forward, "127.0.0.1", self._port)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()

    def close(self) -> None:
        async def end() -> None:
            assert self._server is not None
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        behind, to = await asyncio.open_connection("127.0.0.1", self._to)
        try:
            await asyncio.gather(_pump(reader, to), _pump(behind, writer))
        finally:
            self._tasks.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
