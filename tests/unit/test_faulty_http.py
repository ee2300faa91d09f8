"""The HTTP origin of the fault tests does what it is told: a fault that never comes would prove nothing."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Iterator

import pytest

from tests.helpers.faulty_http import FaultyHttp

DATA = random.Random(0).randbytes(1 << 20)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHttp]:
    root = tmp_path_factory.mktemp("origin")
    (root / "a.ffs").write_bytes(DATA)
    (root / "folder").mkdir()
    with FaultyHttp(root) as server:
        yield server


def get(origin: FaultyHttp, path: str, timeout_s: float = 10, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", origin.port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def test_ranges_and_etags_are_as_http_has_them(origin: FaultyHttp) -> None:
    origin.set()
    answer, body = get(origin, "/a.ffs", Range="bytes=10-19")
    assert (answer.status, body) == (206, DATA[10:20])
    assert answer.headers["Content-Range"] == f"bytes 10-19/{len(DATA)}"
    assert get(origin, "/a.ffs", Range="bytes=-5")[1] == DATA[-5:]
    assert get(origin, "/a.ffs", If_Match='"other"')[0].status == 412
    assert get(origin, "/a.ffs", Range=f"bytes={len(DATA)}-")[0].status == 416
    assert get(origin, "/a.ffs", If_Match=answer.headers["ETag"])[1] == DATA
    assert get(origin, "/../etc/passwd")[0].status == 404
    assert [entry["name"] for entry in json.loads(get(origin, "/")[1])] == ["a.ffs", "folder"]


@pytest.mark.parametrize(("fault", "status"), [("503", 503), ("429", 429)])
def test_refusals_say_when_to_come_again(origin: FaultyHttp, fault: str, status: int) -> None:
    origin.set(chances={fault: 1.0}, retry_after_s=7)
    answer, _ = get(origin, "/a.ffs")
    assert (answer.status, answer.headers["Retry-After"]) == (status, "7")


@pytest.mark.parametrize("fault", ["corrupt", "zeros", "elsewhere"])
def test_a_damaged_body_has_the_right_length(origin: FaultyHttp, fault: str) -> None:
    origin.set(chances={fault: 1.0})
    body = get(origin, "/a.ffs")[1]
    assert len(body) == len(DATA)
    assert body != DATA


def test_a_short_body_ends_early_and_a_reset_is_one(origin: FaultyHttp) -> None:
    origin.set(chances={"short": 1.0})
    with pytest.raises(http.client.IncompleteRead):
        get(origin, "/a.ffs")
    origin.set(chances={"reset": 1.0})
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        get(origin, "/a.ffs")
    origin.set(chances={"hang": 1.0})
    with pytest.raises(TimeoutError):
        get(origin, "/a.ffs", timeout_s=0.2)


def test_delay_and_rate_are_kept_and_counted(origin: FaultyHttp) -> None:
    before = origin.counts()
    origin.set(delay_s=0.05, bytes_per_s=10 * len(DATA))
    started = time.monotonic()
    assert get(origin, "/a.ffs")[1] == DATA
    assert time.monotonic() - started >= 0.05 + 0.1
    after = origin.counts()
    assert after["bytes"] - before["bytes"] == len(DATA)
    assert after["requests"] - before["requests"] == 1
