"""A client that was written for version 1, and never since, works with the daemon of today."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastfeed.wire import messages as m
from tests.helpers.cache_daemon import CacheDaemon
from tests.helpers.faulty_http import FaultyHttp
from tests.helpers.wire_client_v1 import ClientV1, data, fields_of, number

DATA = np.random.default_rng(11).bytes((2 << 20) + 5000)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[ClientV1]:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "file").write_bytes(DATA)
    with FaultyHttp(tmp_path / "www") as origin, CacheDaemon(tmp_path / "node", limit="64MiB") as daemon:
        client = ClientV1(daemon.socket, f"{origin.url}/file")
        yield client
        client.close()


def test_a_client_of_version_one_reads_by_ring_and_by_slot(client: ClientV1) -> None:
    assert client.version == 1
    assert client.size_bytes == len(DATA)
    ranges = [(0, 10), (5000, 70_000), ((1 << 20) - 3, 3), (1 << 20, 1 << 20), (2 << 20, 5000), (len(DATA) - 1, 1)]
    for flags in (1, 0):
        for offset, length in ranges:
            assert client.read(offset, length, flags) == DATA[offset : offset + length]


def test_what_a_newer_client_says_more_is_ignored_or_refused_by_name(client: ClientV1) -> None:
    kind, _, _, _ = client.ask(client.control, m.Ping.TYPE, number(900, 5) + data(901, b"newer"))
    assert kind == m.Done.TYPE
    kind, _, answer, _ = client.ask(client.control, 0x7000, b"")
    assert (kind, answer[0]) == (0x1F, 1)
    kind, _, answer, _ = client.ask(client.control, m.Head.TYPE, b"\1")
    assert (kind, answer[0]) == (0x1F, 2)
    kind, _, answer, _ = client.ask(client.control, m.Command.STATUS, data(1, b"{}"))
    assert kind == m.Told.TYPE
    assert fields_of(answer)
