"""Whole files that clients share: what one asker does, or a file that goes meanwhile, is not another's trouble."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from fastfeed.errors import ConfigError, OriginDeniedError
from tests.helpers.running_daemon import RunningDaemon

DATA = b"a manifest, say" * 100


def test_a_file_that_goes_while_the_origin_is_asked_for_its_version_is_given_all_the_same(tmp_path: Path) -> None:
    """The number of its descriptor may be another file's by then."""
    with RunningDaemon(tmp_path, {"file": DATA}, scripts={"head": ".s"}) as daemon:

        async def run() -> bytes:
            files = daemon.service.files
            descriptor, _ = await files.open(daemon.url("file"), 0, 1 << 20)
            os.close(descriptor)
            asking = asyncio.ensure_future(files.open(daemon.url("file"), 0, 1 << 20))
            await asyncio.sleep(0)
            files.forget(daemon.url("file"))
            others = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
            descriptor, info = await asking
            try:
                return os.pread(descriptor, info.size_bytes, 0)
            finally:
                for each in (descriptor, *others):
                    os.close(each)

        assert daemon.run(run()) == DATA


def test_files_and_reads_together_stay_below_their_limit(tmp_path: Path) -> None:
    """Of six files that are asked for together two are here at a time; one larger than the limit comes alone."""
    objects = {f"file{number}": DATA for number in range(6)} | {"large": DATA * 9}
    flags = {"limits.files": str(2 * len(DATA))}
    with RunningDaemon(tmp_path, objects, flags=flags, scripts={"get_range": "s"}) as daemon:

        async def run() -> list[int]:
            files, most = daemon.service.files, []

            async def one(path: str) -> None:
                descriptor, info = await files.open(daemon.url(path), 0, 1 << 20)
                most.append(files.room.used_bytes)
                assert os.pread(descriptor, info.size_bytes, 0) == objects[path]
                os.close(descriptor)

            await asyncio.gather(*(one(path) for path in objects if path != "large"))
            await one("large")
            assert [files.has(daemon.url(path)) for path in objects] == [False] * 6 + [True]
            await one("file0")
            assert not files.has(daemon.url("large"))
            return most

        assert max(daemon.run(run())[:-2]) <= 2 * len(DATA)


def test_a_read_that_fails_leaves_its_room_to_others(tmp_path: Path) -> None:
    objects = {"a": DATA, "b": DATA}
    flags = {"limits.files": str(len(DATA))}
    with RunningDaemon(tmp_path, objects, flags=flags, scripts={"get_range": "d."}) as daemon:

        async def run() -> None:
            files = daemon.service.files
            opening = (files.open(daemon.url(path), 0, 1 << 20) for path in objects)
            one, other = await asyncio.gather(*opening, return_exceptions=True)
            failed, given = (one, other) if isinstance(one, BaseException) else (other, one)
            assert isinstance(failed, OriginDeniedError)
            assert not isinstance(given, BaseException)
            os.close(given[0])
            assert files.room.used_bytes == len(DATA)

        daemon.run(run())


def test_who_wants_no_more_than_a_byte_does_not_refuse_the_file_to_others(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, {"file": DATA}, scripts={"head": "ss"}) as daemon:

        async def run() -> tuple[int, bytes]:
            files = daemon.service.files
            miser = asyncio.ensure_future(files.open(daemon.url("file"), 0, 1))
            await asyncio.sleep(0)
            descriptor, info = await files.open(daemon.url("file"), 0, 1 << 20)
            with pytest.raises(ConfigError, match="at most 1 were asked for"):
                await miser
            try:
                return info.size_bytes, os.pread(descriptor, info.size_bytes, 0)
            finally:
                os.close(descriptor)

        assert daemon.run(run()) == (len(DATA), DATA)
