"""What every origin keeps: in memory, files, object stores of four kinds of real servers, and with limits around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fastfeed.errors import ConfigError, OriginChangedError, OriginDeniedError, OriginError
from fastfeed.storage.file_origin import FileOrigin
from fastfeed.storage.memory_origin import MemoryOrigin
from fastfeed.storage.options import OriginOptions
from fastfeed.storage.origins import WHOLE_RANGE_BYTES, open_origin, read_whole
from fastfeed.storage.protocol import Listed, Origin
from fastfeed.storage.steady import SteadyOrigin
from tests.helpers.gcs_gateway import GcsGateway
from tests.helpers.servers import Azurite, FakeGcs, Nginx, SeaweedFS

# A fresh origin a call, of the same place.
OpenOrigin = Callable[[], Origin]
# Names that encodings could break.
ODD_NAME = "a b%20c+d&e=ü.bin"


def run(opened: OpenOrigin, work: Callable[[Origin], Awaitable[None]]) -> None:
    async def within() -> None:
        async with closing_origin(opened()) as origin:
            await work(origin)

    asyncio.run(within())


@asynccontextmanager
async def closing_origin(origin: Origin) -> AsyncIterator[Origin]:
    try:
        yield origin
    finally:
        await origin.close()


async def listed(origin: Origin, prefix: str, *, recursive: bool = False) -> list[str]:
    return sorted([each.path async for each in origin.list(prefix, recursive=recursive)])


class ReadingContract:
    """Subclasses give `opened`, and `store` by which an object gets there; the tests are the contract."""

    @pytest.fixture
    def opened(self, **_: Any) -> OpenOrigin:
        raise NotImplementedError

    @pytest.fixture
    def store(self, opened: OpenOrigin) -> Callable[[str, bytes], None]:
        def put(path: str, data: bytes) -> None:
            run(opened, lambda origin: origin.put(path, data))

        return put

    def test_ranges_are_exact_and_say_which_object_they_are_of(
        self, opened: OpenOrigin, store: Callable[[str, bytes], None]
    ) -> None:
        data = bytes(range(256)) * 5000
        store("ranges/object", data)

        async def read(origin: Origin) -> None:
            info = await origin.head("ranges/object")
            assert info.size_bytes == len(data)
            assert info.etag
            assert info.modified_s > 1.6e9
            for start, stop in ((0, 1), (len(data) - 1, len(data)), (1000, 1_200_000), (0, len(data))):
                piece = await origin.get_range("ranges/object", start, stop, etag=info.etag)
                assert bytes(piece.data) == data[start:stop]
                assert piece.data.readonly
                assert (piece.info.size_bytes, piece.info.etag) == (len(data), info.etag)
            assert (await origin.get_range("ranges/object", 3, 5)).info.etag == info.etag

        run(opened, read)

    def test_an_object_that_was_replaced_is_an_error_and_no_mixture(
        self, opened: OpenOrigin, store: Callable[[str, bytes], None]
    ) -> None:
        store("replaced/object", b"first content")

        async def etag(origin: Origin) -> None:
            pinned.append((await origin.get_range("replaced/object", 0, 5)).info.etag)

        async def read(origin: Origin) -> None:
            with pytest.raises(OriginChangedError, match="replaced/object"):
                await origin.get_range("replaced/object", 5, 10, etag=pinned[0])
            assert bytes((await origin.get_range("replaced/object", 0, 6)).data) == b"second"

        pinned: list[str] = []
        run(opened, etag)
        store("replaced/object", b"second, and longer")
        run(opened, read)

    def test_bytes_past_the_end_are_an_error(self, opened: OpenOrigin, store: Callable[[str, bytes], None]) -> None:
        store("end/object", b"12345")

        async def read(origin: Origin) -> None:
            for start, stop in ((3, 6), (5, 6), (100, 200)):
                with pytest.raises(OriginChangedError, match="end/object"):
                    await origin.get_range("end/object", start, stop)

        run(opened, read)

    def test_what_is_not_there_is_not_found_and_lists_nothing(self, opened: OpenOrigin) -> None:
        async def read(origin: Origin) -> None:
            with pytest.raises(FileNotFoundError, match="missing/object"):
                await origin.head("missing/object")
            with pytest.raises(FileNotFoundError, match="missing/object"):
                await origin.get_range("missing/object", 0, 1)
            assert await listed(origin, "missing") == []
            assert await listed(origin, "missing", recursive=True) == []

        run(opened, read)

    def test_listings_have_the_folder_or_all_below_it(
        self, opened: OpenOrigin, store: Callable[[str, bytes], None]
    ) -> None:
        for path in ("list/one", "list/two", f"list/below/{ODD_NAME}", "list/below/deep/four", "listing/other"):
            store(path, path.encode())

        async def look(origin: Origin) -> None:
            assert await listed(origin, "list") == ["list/one", "list/two"]
            assert await listed(origin, "list/below") == [f"list/below/{ODD_NAME}"]
            below = ["list/below/deep/four", f"list/below/{ODD_NAME}", "list/one", "list/two"]
            assert await listed(origin, "list", recursive=True) == sorted(below)
            for path in below:
                assert bytes((await origin.get_range(path, 0, len(path.encode()))).data) == path.encode()

        run(opened, look)

    def test_a_whole_object_is_read_by_several_ranges(
        self, opened: OpenOrigin, store: Callable[[str, bytes], None]
    ) -> None:
        data = bytes(range(251)) * ((WHOLE_RANGE_BYTES * 2 + 12345) // 251)
        store("whole/object", data)
        store("whole/empty", b"")

        async def read(origin: Origin) -> None:
            found, info = await read_whole(origin, "whole/object")
            assert found == data
            assert info.size_bytes == len(data)
            assert (await read_whole(origin, "whole/empty"))[0] == b""
            with pytest.raises(OriginChangedError, match="were expected"):
                await read_whole(origin, "whole/object", len(data) + 1)

        run(opened, read)


class WritingContract(ReadingContract):
    def test_of_many_that_make_one_object_one_succeeds(self, opened: OpenOrigin) -> None:
        async def race(origin: Origin) -> None:
            async def put(number: int) -> int | None:
                try:
                    await origin.put("race/object", b"%d" % number, if_absent=True, tag=f"tag{number}")
                except FileExistsError:
                    return None
                return number

            won = [number for number in await asyncio.gather(*map(put, range(8))) if number is not None]
            assert len(won) == 1
            assert bytes((await origin.get_range("race/object", 0, 1)).data) == b"%d" % won[0]

        run(opened, race)

    def test_an_object_is_replaced_and_removed(self, opened: OpenOrigin) -> None:
        async def change(origin: Origin) -> None:
            await origin.put("change/object", b"one")
            await origin.put("change/object", memoryview(b"the other"))
            assert (await origin.head("change/object")).size_bytes == 9
            await origin.delete("change/object")
            with pytest.raises(FileNotFoundError):
                await origin.head("change/object")
            await origin.delete("change/object")  # gone already: no error

        run(opened, change)

    def test_who_repeats_a_put_whose_answer_was_lost_has_made_the_object(self, opened: OpenOrigin) -> None:
        async def put_twice(origin: Origin) -> None:
            await origin.put("lost/object", b"ours", if_absent=True, tag="0123456789abcdef")
            await origin.put("lost/object", b"ours", if_absent=True, tag="0123456789abcdef")
            with pytest.raises(FileExistsError, match="lost/object"):
                await origin.put("lost/object", b"ours", if_absent=True, tag="fedcba9876543210")

        run(opened, put_twice)


class TestMemory(WritingContract):
    @pytest.fixture
    def opened(self) -> OpenOrigin:
        origin = MemoryOrigin()
        return lambda: origin


class TestLimitsAndRetries(WritingContract):
    @pytest.fixture
    def opened(self) -> OpenOrigin:
        inner = MemoryOrigin()
        return lambda: SteadyOrigin(inner, OriginOptions(in_flight_max=2, bytes_per_s_max=1 << 30))


class TestFiles(WritingContract):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> OpenOrigin:
        return lambda: FileOrigin(tmp_path)

    def test_who_repeats_a_put_whose_answer_was_lost_has_made_the_object(self, opened: OpenOrigin) -> None:
        """The answer of a system call is not lost."""

    def test_paths_do_not_leave_the_folder(self, opened: OpenOrigin, tmp_path: Path) -> None:
        (tmp_path.parent / "outside").write_bytes(b"secret")

        async def read(origin: Origin) -> None:
            with pytest.raises(FileNotFoundError):
                await origin.head("../outside")

        run(opened, read)

    def test_a_shard_that_is_published_again_is_the_same_object(self, opened: OpenOrigin, tmp_path: Path) -> None:
        (tmp_path / "one.ffs").write_bytes(b"12345")
        (tmp_path / "other").write_bytes(b"12345")

        async def read(origin: Origin) -> None:
            etags = [(await origin.head(name)).etag for name in ("one.ffs", "other")]
            for name in ("one.ffs", "other"):
                path = tmp_path / name
                status = path.stat()
                path.touch()
                assert path.stat().st_mtime_ns != status.st_mtime_ns
            assert bytes((await origin.get_range("one.ffs", 1, 3, etag=etags[0])).data) == b"23"
            with pytest.raises(OriginChangedError):
                await origin.get_range("other", 1, 3, etag=etags[1])

        run(opened, read)


class TestSeaweedFS(WritingContract):
    @pytest.fixture(scope="class")
    @staticmethod
    def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
        with SeaweedFS(tmp_path_factory.mktemp("weed")) as server:
            yield server

    @pytest.fixture
    def opened(self, server: SeaweedFS) -> OpenOrigin:
        return lambda: open_origin(f"s3://{server.bucket}", OriginOptions(**server.options))[0]

    @pytest.mark.parametrize("missing", ["wrong secret", "unknown key", "anonymous"])
    def test_who_has_no_right_is_told_what_to_check(self, server: SeaweedFS, missing: str) -> None:
        given = {
            "wrong secret": {"secret_access_key": "wrong"},
            "unknown key": {"access_key_id": "nobody"},
            "anonymous": {"access_key_id": None, "secret_access_key": None, "anonymous": True},
        }[missing]
        options = OriginOptions(**{**server.options, **given})

        async def ask(origin: Origin) -> None:
            with pytest.raises(OriginDeniedError, match=r"403.*Check the credentials"):
                await origin.get_range("any", 0, 1)
            with pytest.raises(OriginDeniedError, match=r"403.*Check the credentials"):
                await listed(origin, "any")

        run(lambda: open_origin(f"s3://{server.bucket}", options)[0], ask)

    def test_a_key_that_may_only_read_reads_and_does_not_write(self, server: SeaweedFS, opened: OpenOrigin) -> None:
        run(opened, lambda origin: origin.put("readers/object", b"123"))
        keys = {"access_key_id": server.reader_key, "secret_access_key": server.reader_secret}
        options = OriginOptions(**{**server.options, **keys})

        async def use(origin: Origin) -> None:
            assert bytes((await origin.get_range("readers/object", 0, 3)).data) == b"123"
            for forbidden in (origin.put("readers/new", b""), origin.delete("readers/object")):
                with pytest.raises(OriginDeniedError, match="AccessDenied"):
                    await forbidden

        run(lambda: open_origin(f"s3://{server.bucket}", options)[0], use)

    def test_credentials_of_a_file_are_used(self, server: SeaweedFS, tmp_path: Path) -> None:
        file = tmp_path / "credentials"
        file.write_text(f"[train]\naws_access_key_id = {server.key}\naws_secret_access_key = {server.secret}\n")
        options = {"endpoint": server.options["endpoint"], "allow_http": True, "credentials_file": file}

        async def write(origin: Origin) -> None:
            await origin.put("by-file/object", b"123")

        run(lambda: open_origin(f"s3://{server.bucket}", OriginOptions(**options, profile="train"))[0], write)

    def test_a_bucket_that_does_not_exist_is_named(self, server: SeaweedFS) -> None:
        async def look(origin: Origin) -> None:
            with pytest.raises(OriginError, match=r"no-such-bucket.*NoSuchBucket"):
                await listed(origin, "x")

        run(lambda: open_origin("s3://no-such-bucket", OriginOptions(**server.options))[0], look)

    def test_a_large_object_is_uploaded_in_parts(self, opened: OpenOrigin) -> None:
        data = bytes(range(256)) * (1 << 18) + b"and a rest"

        async def upload(origin: Origin) -> None:
            await origin.put("large/object", memoryview(data))
            found, info = await read_whole(origin, "large/object", len(data))
            assert found == data
            assert "-" in info.etag  # S3's mark of an upload in parts

        run(opened, upload)

    def test_plain_http_must_be_allowed(self, server: SeaweedFS) -> None:
        options = OriginOptions(**{**server.options, "allow_http": False})

        async def ask(origin: Origin) -> None:
            with pytest.raises(ConfigError, match="AWS_ALLOW_HTTP"):
                await origin.head("any")

        run(lambda: open_origin(f"s3://{server.bucket}", options)[0], ask)


class TestAzurite(WritingContract):
    @pytest.fixture(scope="class")
    @staticmethod
    def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
        with Azurite(tmp_path_factory.mktemp("azurite")) as server:
            yield server

    @pytest.fixture
    def opened(self, server: Azurite) -> OpenOrigin:
        return lambda: open_origin(f"az://{server.bucket}", OriginOptions(**server.options))[0]

    def test_a_wrong_key_is_refused(self, server: Azurite) -> None:
        options = OriginOptions(**{**server.options, "secret_access_key": "d3Jvbmc="})

        async def ask(origin: Origin) -> None:
            with pytest.raises(OriginDeniedError, match="403"):
                await origin.get_range("any", 0, 1)

        run(lambda: open_origin(f"az://{server.bucket}", options)[0], ask)


class TestFakeGcs(WritingContract):
    """Reading from the emulator itself; writing through a gateway, for it does not know the requests of obstore."""

    @pytest.fixture(scope="class")
    @staticmethod
    def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsGateway]:
        with FakeGcs(tmp_path_factory.mktemp("gcs")) as server, GcsGateway(server) as gateway:
            yield gateway

    @pytest.fixture
    def opened(self, gateway: GcsGateway) -> OpenOrigin:
        return lambda: open_origin(f"gs://{gateway.bucket}", OriginOptions(**gateway.options))[0]


class TestNginx(ReadingContract):
    @pytest.fixture(scope="class", params=["html", "json"])
    @staticmethod
    def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
        folder = tmp_path_factory.mktemp("nginx")
        (folder / "www").mkdir()
        with Nginx(folder, folder / "www", listing=request.param) as server:
            yield server

    @pytest.fixture
    def opened(self, server: Nginx) -> OpenOrigin:
        return lambda: open_origin(server.url)[0]

    @pytest.fixture
    def store(self, server: Nginx) -> Callable[[str, bytes], None]:
        def put(path: str, data: bytes) -> None:
            target = server.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

        return put

    def test_each_byte_is_asked_for_once(
        self, server: Nginx, opened: OpenOrigin, store: Callable[[str, bytes], None]
    ) -> None:
        store("once/object", bytes(1 << 20))

        async def read(origin: Origin) -> None:
            for start in range(0, 1 << 20, 1 << 18):
                await origin.get_range("once/object", start, start + (1 << 18))

        run(opened, read)
        asked = [each for each in server.requests() if each.path == "/once/object"]
        assert sum(each.sent_bytes for each in asked) == 1 << 20
        assert [each.range for each in asked][1] == "bytes=262144-524287"

    def test_listings_say_sizes_where_the_server_does(
        self, server: Nginx, opened: OpenOrigin, store: Callable[[str, bytes], None]
    ) -> None:
        store("sizes/object", b"12345")

        async def look(origin: Origin) -> None:
            (found,) = [each async for each in origin.list("sizes")]
            if "autoindex_format json" in (server.folder / "nginx.conf").read_text():
                assert found.size_bytes == 5
                assert (found.modified_s or 0) > 1.6e9
            else:
                assert found == Listed("sizes/object", None, None)

        run(opened, look)

    def test_nothing_is_written_to_a_web_server(self, opened: OpenOrigin) -> None:
        async def write(origin: Origin) -> None:
            with pytest.raises(ConfigError, match="web server"):
                await origin.put("any", b"")

        run(opened, write)


def test_a_web_server_without_listings_says_so(tmp_path: Path) -> None:
    (tmp_path / "www" / "folder").mkdir(parents=True)

    async def look(origin: Origin) -> None:
        with pytest.raises(OriginDeniedError, match="autoindex"):
            await listed(origin, "folder")

    with Nginx(tmp_path, tmp_path / "www", listing="") as server:
        run(lambda: open_origin(server.url)[0], look)
