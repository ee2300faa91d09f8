"""The daemon's HTTP port on loopback: /metrics, /health, the page and the numbers that it shows.

Every request is checked twice. Who calls: the kernel says which user is at the other end (peer_user.py); root, the
daemon's user and `http_users` see everything, users of a pool that pool, others nothing. Which name was used: only a
name of loopback, so that a web site cannot make a browser on this machine read it.

Answers are made from a `Report`, without I/O. The page and its script are files beside this one; they load nothing
from elsewhere.
"""

from __future__ import annotations

import asyncio
import grp
import ipaddress
import pwd
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from fastfeed.daemon.config import Address, Config
from fastfeed.daemon.history import STEP_S, History
from fastfeed.daemon.metrics import CONTENT_TYPE, exposition
from fastfeed.daemon.peer_user import user_of
from fastfeed.daemon.report import Report, Reporter, to_json

PAGE = Path(__file__).with_name("page")
PAGE_FILES = {"/": "index.html", "/page.js": "page.js", "/page.css": "page.css"}
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
# A person, a Prometheus and a health check are three.
CONNECTIONS_MAX = 64
# Connections without a request are closed after so long.
IDLE_S = 30.0
# Requests have no body.
BODY_BYTES_MAX = 1024
CLOSE_TIMEOUT_S = 1.0
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

# From a request and the pools that its user sees (None: all) to what is answered.
Answer = Callable[[web.Request, set[str] | None], web.Response]


class HttpPort:
    """The port and the history that its page shows. `config` is asked at each request: a reload may change it."""

    def __init__(self, reporter: Reporter, config: Callable[[], Config], uid: int) -> None:
        self._reporter = reporter
        self._config = config
        self._uid = uid
        self.history = History()
        self._runner: web.AppRunner | None = None
        self._recorder: asyncio.Task[None] | None = None
        self.url = ""

    async def start(self, address: Address) -> None:
        """Listen. OSError where the port is taken."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        answers: dict[str, Answer] = {
            "/metrics": self._metrics,
            "/health": self._health,
            "/api/report": self._report,
            "/api/history": self._series,
            **dict.fromkeys(PAGE_FILES, self._file),
        }
        for path, answer in answers.items():
            app.router.add_get(path, self._checked(answer))
        self._runner = web.AppRunner(
            app, access_log=None, keepalive_timeout=IDLE_S, shutdown_timeout=CLOSE_TIMEOUT_S, handle_signals=False
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, address.host, address.port, backlog=CONNECTIONS_MAX)
        try:
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.url = f"http://{Address(*self._runner.addresses[0][:2])}/"
        self._recorder = asyncio.create_task(self._record())

    async def close(self) -> None:
        """Stop listening and end open connections. Idempotent."""
        if self._recorder is not None:
            self._recorder.cancel()
            with suppress(asyncio.CancelledError):
                await self._recorder
            self._recorder = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _record(self) -> None:
        """A reading every STEP_S, at multiples of it, so that a slow one does not shift the others."""
        begun_s = time.monotonic()
        while True:
            self.history.add(self._reporter.report())
            await asyncio.sleep(STEP_S - (time.monotonic() - begun_s) % STEP_S)

    def _checked(self, answer: Answer) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """`answer` for those who may ask; it gets the pools that they see."""

        async def handler(request: web.Request) -> web.StreamResponse:
            assert self._runner is not None  # a request came through it
            assert request.transport is not None  # gone only when the connection is lost
            if not is_loopback_name(request.host):
                return refusal(403, f"{request.host!r} is no name of this machine's loopback. Use 127.0.0.1.")
            server = self._runner.server
            if server is not None and len(server.connections) > CONNECTIONS_MAX:
                return refusal(503, "too many connections")
            local, remote = (request.transport.get_extra_info(end)[:2] for end in ("sockname", "peername"))
            # In a thread: the kernel's table may be long, and a directory service may be slow to name groups.
            pools = await asyncio.to_thread(self._pools_of, local, remote)
            if pools is not None and not pools:
                return refusal(403, "you are a user of no pool of this cache, and not among http_users.")
            response = answer(request, pools)
            response.headers.update(HEADERS)
            return response

        return handler

    def _pools_of(self, local: tuple[str, int], remote: tuple[str, int]) -> set[str] | None:
        uid = user_of(local, remote)
        return set() if uid is None else visible_pools(self._config(), uid, self._uid)

    def _seen(self, pools: set[str] | None) -> Report:
        return self._reporter.report().seen_by(pools)

    def _metrics(self, _: web.Request, pools: set[str] | None) -> web.Response:
        return web.Response(body=exposition(self._seen(pools)), headers={"Content-Type": CONTENT_TYPE})

    def _health(self, _: web.Request, pools: set[str] | None) -> web.Response:
        report = self._seen(pools)
        return web.json_response({"status": health(report)}, status=503 if report.draining else 200)

    def _report(self, _: web.Request, pools: set[str] | None) -> web.Response:
        report = self._seen(pools)
        return web.json_response({**to_json(report), "status": health(report)})

    def _series(self, _: web.Request, pools: set[str] | None) -> web.Response:
        return web.json_response({"step_s": STEP_S, "points": self.history.series(pools)})

    def _file(self, request: web.Request, _: set[str] | None) -> web.Response:
        path = PAGE / PAGE_FILES[request.path]
        return web.Response(body=path.read_bytes(), content_type=TYPES[path.suffix], charset="utf-8")


def refusal(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers=HEADERS)


def health(report: Report) -> str:
    """ "ok"; "degraded" where a disk is not; "draining" while the daemon leaves."""
    if report.draining:
        return "draining"
    return "degraded" if any(disk.state != "ok" for pool in report.pools for disk in pool.disks) else "ok"


def is_loopback_name(host: str) -> bool:
    """Whether a Host header means this machine as it means itself: "127.0.0.1:7463", "localhost", "[::1]:80"."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def visible_pools(config: Config, uid: int, daemon_uid: int) -> set[str] | None:
    """The pools that a user sees over HTTP; None: everything."""
    if uid in (0, daemon_uid) or uid in config.http_users or "*" in config.http_users:
        return None
    return {pool.name for pool in config.pools if pool.admits(uid, groups_of(uid))}


def groups_of(uid: int) -> list[int]:
    """The groups of a user, as the system's databases say; none where it knows no such user."""
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return []
    return [user.pw_gid, *(group.gr_gid for group in grp.getgrall() if user.pw_name in group.gr_mem)]
