"""The daemon's HTTP port: who is answered, and with what. Real sockets on loopback, a made-up daemon behind them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from fastfeed.daemon.config import Address, Config, load
from fastfeed.daemon.defaults import Machine
from fastfeed.daemon.http import CONNECTIONS_MAX, HttpPort, groups_of, is_loopback_name, visible_pools
from fastfeed.daemon.peer_user import user_of
from tests.helpers.daemon_reports import FixedReporter, pool, report

ANY_PORT = Address("127.0.0.1", 0)
POOLS = """
http_users = [901]
[pools.ml]
limit = "1GiB"
users = [1001]
[pools.web]
limit = "1GiB"
users = [1002]
groups = [0]
"""


def config(folder: Path, text: str = POOLS) -> Config:
    file = folder / "cache.toml"
    file.write_text(text)
    return load(file, machine=Machine.here({"HOME": "/tmp"})).config


def with_port(
    check: Callable[[HttpPort, aiohttp.ClientSession], Awaitable[None]],
    *,
    reporter: FixedReporter | None = None,
    known: Config | None = None,
    uid: int | None = None,
    address: Address = ANY_PORT,
) -> None:
    """Run `check` with a port that listens and a client."""

    async def run() -> None:
        settings = known or load(machine=Machine.here({"HOME": "/tmp"})).config
        port = HttpPort(reporter or FixedReporter(), lambda: settings, os.geteuid() if uid is None else uid)
        await port.start(address)
        try:
            async with aiohttp.ClientSession() as client:
                await check(port, client)
        finally:
            await port.close()

    asyncio.run(run())


def number_of(port: HttpPort) -> int:
    return int(port.url.rstrip("/").rpartition(":")[2])


class TestAnswers:
    def test_metrics_page_report_and_history(self) -> None:
        async def check(port: HttpPort, client: aiohttp.ClientSession) -> None:
            async with client.get(port.url + "metrics") as answer:
                assert answer.status == 200
                assert "fastfeed_cache_read_bytes_total" in await answer.text()
            async with client.get(port.url + "api/report") as answer:
                said = await answer.json()
                assert (said["status"], said["pools"][0]["name"]) == ("degraded", "ml")
            async with client.get(port.url + "api/history") as answer:
                assert await answer.json() == {"step_s": 5.0, "points": []}
            for path, kind in (("", "text/html"), ("page.js", "text/javascript"), ("page.css", "text/css")):
                async with client.get(port.url + path) as answer:
                    assert (answer.status, answer.content_type) == (200, kind)
                    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]

        with_port(check)

    def test_the_page_loads_nothing_from_elsewhere(self) -> None:
        async def check(port: HttpPort, client: aiohttp.ClientSession) -> None:
            for path in ("", "page.js", "page.css"):
                async with client.get(port.url + path) as answer:
                    text = await answer.text()
                    urls = re.findall(r"https?://[^\s\"'`)]+", text)
                    assert set(urls) <= {"http://www.w3.org/2000/svg"}  # a name, which is never fetched
                    assert "@import" not in text
                    assert len(text) < 20_000, "a light page"

        with_port(check)

    @pytest.mark.parametrize(
        ("draining", "state", "status", "word"),
        [(False, "ok", 200, "ok"), (False, "out", 200, "degraded"), (True, "ok", 503, "draining")],
    )
    def test_health_is_503_only_while_the_daemon_leaves(
        self, draining: bool, state: str, status: int, word: str
    ) -> None:
        base = pool()
        disks = tuple(dataclasses.replace(disk, state=state) for disk in base.disks)
        reporter = FixedReporter(report(dataclasses.replace(base, disks=disks), draining=draining))

        async def check(port: HttpPort, client: aiohttp.ClientSession) -> None:
            async with client.get(port.url + "health") as answer:
                assert (answer.status, (await answer.json())["status"]) == (status, word)

        with_port(check, reporter=reporter)

    def test_other_paths_and_methods_are_refused(self) -> None:
        async def check(port: HttpPort, client: aiohttp.ClientSession) -> None:
            for path in ("page/../http.py", "%2e%2e/http.py", "nothing"):
                async with client.get(port.url + path) as answer:
                    assert answer.status == 404
            async with client.post(port.url + "metrics", data=b"x") as answer:
                assert answer.status == 405

        with_port(check)

    def test_ipv6_loopback_works_too(self) -> None:
        async def check(port: HttpPort, client: aiohttp.ClientSession) -> None:
            assert port.url.startswith("http://[::1]:")
            async with client.get(port.url + "health") as answer:
                assert answer.status == 200

        with_port(check, address=Address("::1", 0))

    def test_a_port_that_is_taken_is_an_error_and_closing_twice_is_none(self) -> None:
        async def check(port: HttpPort, client: aiohttp.ClientSession) -> None:
            taken = number_of(port)
            other = HttpPort(FixedReporter(), lambda: load(machine=Machine.here({"HOME": "/tmp"})).config, 0)
            with pytest.raises(OSError, match="in use"):
                await other.start(Address("127.0.0.1", taken))
            await other.close()
            await other.close()

        with_port(check)


class TestWhoIsAnswered:
    @pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "192.0.2.1", "127.0.0.1.evil.example", ""])
    def test_a_name_that_is_not_loopbacks_is_refused(self, host: str) -> None:
        """A web site may give its own name the address 127.0.0.1, and a browser here would ask for it."""

        async def check(port: HttpPort, client: aiohttp.ClientSession) -> None:
            async with client.get(port.url + "metrics", headers={"Host": host}) as answer:
                assert answer.status == 403
                assert "fastfeed_cache" not in await answer.text()

        with_port(check)

    @pytest.mark.parametrize("host", ["localhost", "localhost:7463", "127.0.0.1", "127.0.0.1:1", "[::1]:80", "[::1]"])
    def test_loopbacks_names_are_known(self, host: str) -> None:
        assert is_loopback_name(host)

    def test_a_user_of_no_pool_gets_nothing(self, tmp_path: Path) -> None:
        """Asked by a process of user 1003, for real: the kernel says who it is."""
        program = (
            "import encodings.idna, os, socket, sys  # all of it now: another user may not read where Python lies\n"
            "os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[3]))\n"
            "asking = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
            "asking.sendall(f'GET /{sys.argv[2]} HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n'.encode())\n"
            "sys.stdout.write(asking.makefile().read())\n"
        )

        async def ask(port: HttpPort, path: str, uid: int) -> str:
            words = [str(number_of(port)), path, str(uid)]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-c", program, *words, stdout=asyncio.subprocess.PIPE, env={}
            )
            out, _ = await process.communicate()
            return out.decode()

        async def check(port: HttpPort, client: aiohttp.ClientSession) -> None:
            for path in ("metrics", "health", "api/report", "api/history", ""):
                answer = await ask(port, path, 1003)
                assert answer.startswith("HTTP/1.0 403 ")
                assert "you are a user of no pool" in answer
                assert "ml" not in answer
            seen = await ask(port, "metrics", 1001)
            assert 'pool="ml"' in seen
            assert 'pool="web"' not in seen
            assert 'pool="web"' in await ask(port, "metrics", 901)

        if os.geteuid() != 0:
            pytest.skip("only root can become other users")
        with_port(check, reporter=FixedReporter(report(pool("ml"), pool("web"))), known=config(tmp_path), uid=990)

    def test_root_the_daemons_user_and_http_users_see_everything(self, tmp_path: Path) -> None:
        known = config(tmp_path)
        assert visible_pools(known, 0, 990) is None
        assert visible_pools(known, 990, 990) is None
        assert visible_pools(known, 901, 990) is None
        assert visible_pools(known, 1001, 990) == {"ml"}
        assert visible_pools(known, 1003, 990) == set()
        assert visible_pools(known, 65534, 990) == set()

    def test_groups_come_from_the_systems_databases(self) -> None:
        assert 0 in groups_of(0)
        assert groups_of(3_999_999) == []

    def test_too_many_connections_are_turned_away_and_the_port_recovers(self) -> None:
        async def check(port: HttpPort, client: aiohttp.ClientSession) -> None:
            number = number_of(port)
            crowd = [await asyncio.open_connection("127.0.0.1", number) for _ in range(CONNECTIONS_MAX + 1)]
            async with client.get(port.url + "health") as answer:
                assert answer.status == 503
            for _, writer in crowd:
                writer.close()
                await writer.wait_closed()
            async with asyncio.timeout(10):
                while True:
                    async with aiohttp.ClientSession() as other, other.get(port.url + "health") as answer:
                        if answer.status == 200:
                            return

        with_port(check)


class TestPeerUser:
    def test_the_kernel_names_the_user_at_the_other_end(self) -> None:
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with (
                socket.create_server((host, 0), family=family) as server,
                socket.create_connection(server.getsockname()[:2]),
            ):
                accepted, peer = server.accept()
                with accepted:
                    assert user_of(accepted.getsockname()[:2], peer[:2]) == os.geteuid()

    def test_a_socket_that_its_process_has_closed_belongs_to_nobody(self) -> None:
        """The kernel would say root."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            accepted, peer = server.accept()
            with accepted:
                client.close()
                assert user_of(accepted.getsockname(), peer) is None

    def test_only_an_established_line_with_both_ends_counts(self, tmp_path: Path) -> None:
        here, there = ("127.0.0.1", 0x1234), ("127.0.0.1", 0x5678)
        head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        line = "   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000  {uid}        0 99 1\n"
        ends = {"local": "0100007F:5678", "remote": "0100007F:1234"}
        (tmp_path / "tcp").write_text(
            head
            + line.format(local=ends["remote"], remote=ends["local"], state="01", uid=1)
            + line.format(**ends, state="06", uid=0)
            + line.format(**ends, state="01", uid=1234)
        )
        assert user_of(here, there, tmp_path) == 1234
        assert user_of(there, ("127.0.0.1", 1), tmp_path) is None
