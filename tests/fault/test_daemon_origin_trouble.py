"""Training goes on through trouble of the origin where a retry can help, and stops with an error where it cannot.

A loader over a daemon over an origin that fails by script: each epoch is compared with the local files. What real
servers and networks do is in test_origin_trouble.py; here is what a training job sees of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastfeed as ff
from fastfeed.errors import CorruptDataError, FastfeedError, OriginChangedError, OriginError
from fastfeed.wire.place import Place
from fastfeed.wire.sessions import close_sessions, session_at
from tests.helpers.running_daemon import RunningDaemon

ROWS = 600
QUICK = {"timeout_s": 0.3, "deadline_s": 3.0, "slow_bytes_per_s": 16 << 20}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 MB in two shards."""
    folder = tmp_path_factory.mktemp("trouble")
    with ff.DatasetWriter(folder / "data", ff.Schema({"data": ff.Bytes()}), shard_size="4MiB") as writer:
        for row in range(ROWS):
            writer.write({"data": random.Random(row).randbytes(10_000)})
    return folder


@pytest.fixture(autouse=True)
def no_session_stays() -> Iterator[None]:
    yield
    close_sessions()


def train(daemon: RunningDaemon, data: Path, epochs: int = 2) -> None:
    """Read epochs and compare each sample with the local files."""
    local = ff.open(data / "data")
    with ff.Loader(ff.open(daemon.url("data"), cache=str(daemon.socket)), batch_size=64, last="short", threads=2,
                   timeout_s=60) as loader:  # fmt: skip
        for _ in range(epochs):
            rows = 0
            for batch in loader:
                assert list(batch["data"]) == list(local.take(batch.rows.tolist())["data"])
                rows += len(batch)
            assert rows == ROWS


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("eeeeee.e.e.ee", "a storm of 503"),
        ("t.tt", "429 with Retry-After"),
        ("r.r.r.r.rr", "resets in the middle of bodies"),
        ("h.h", "hangs"),
        ("ssssssssss", "a slow origin"),
        (".b.b", "bits that flip on the way"),
    ],
)
def test_training_goes_on_through(data: Path, tmp_path: Path, script: str, what: str) -> None:
    # The index and the manifest are read before: they are checked, and read again, elsewhere.
    with RunningDaemon(tmp_path, {}, scripts={"get_range": ".." + script, "head": script[:2].replace("b", ".")},
                       options=QUICK) as daemon:  # fmt: skip
        daemon.serve_folder(data)
        train(daemon, data)
        assert daemon.service.pool.stats().counters.quarantined == 0, what


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        ("d" * 99, OriginError, "403 Forbidden"),
        ("n" * 99, FastfeedError, "no such|not there|does not exist"),
        ("c" * 99, OriginChangedError, "replaced|changed"),
        ("b" * 999, CorruptDataError, "checksum"),
        ("e" * 999, OriginError, "failed 9 times"),
        ("h" * 999, OriginError, "no whole answer"),
    ],
)
def test_training_stops_with_what_to_do(
    data: Path, tmp_path: Path, script: str, error: type[FastfeedError], says: str
) -> None:
    with RunningDaemon(tmp_path, {}, scripts={"get_range": ".." + script}, options=QUICK) as daemon:
        daemon.serve_folder(data)
        with pytest.raises(error, match=says):
            train(daemon, data)


def test_an_object_that_is_replaced_while_it_is_read_is_an_error_and_never_a_mixture(tmp_path: Path) -> None:
    before, after = (bytes([letter]) * (4 << 20) for letter in b"ab")
    with RunningDaemon(tmp_path, {"file": before}) as daemon:
        opened = session_at(Place(daemon.socket)).open_url(daemon.url("file"))
        assert opened.read(0, 0, 100) == before[:100]
        daemon.put("file", after)
        with pytest.raises(OriginChangedError, match="replaced"):
            opened.read(0, 3 << 20, 100)
        assert opened.read(0, 50, 100) == before[:100]


def test_what_was_cached_is_read_while_the_origin_is_down(data: Path, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, {}, options=QUICK) as daemon:
        daemon.serve_folder(data)
        train(daemon, data, 1)
        daemon.wait(lambda: daemon.service.keeper.is_idle)
        local, cached = ff.open(data / "data"), ff.open(daemon.url("data"), cache=str(daemon.socket))
        daemon.remove_all()
        assert list(cached.take(list(range(ROWS)))["data"]) == list(local.take(list(range(ROWS)))["data"])
