"""In front of the emulator of Google's storage: the requests of obstore that it does not know.

obstore makes and removes objects as Google's XML API has it (PUT and DELETE of /bucket/path); the emulator knows these
only as the JSON API. This translates them, conditions and metadata included, and hands on all others as they are.
"""

from __future__ import annotations

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import quote, unquote

from tests.helpers.servers import FakeGcs

META = "x-goog-meta-"
# Of one connection only.
HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "host"}


class GcsGateway:
    """Serves in threads of this process."""

    def __init__(self, server: FakeGcs) -> None:
        self.bucket = server.bucket
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"behind": server.port}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def options(self) -> dict[str, Any]:
        return {"endpoint": self._address, "session_token": "of-nobody", "allow_http": True}

    @property
    def variables(self) -> dict[str, str]:
        """The same as environment variables, for commands."""
        return {
            "GOOGLE_BASE_URL": self._address,
            "GOOGLE_BEARER_TOKEN": "of-nobody",
            "GOOGLE_ALLOW_HTTP": "true",
        }

    @property
    def _address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    behind = 0
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        bucket, _, name = self.path.split("?")[0].lstrip("/").partition("/")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        metadata = {key[len(META) :]: value for key, value in self.headers.items() if key.lower().startswith(META)}
        about = json.dumps({"name": unquote(name), "metadata": metadata})
        related = (
            f"--edge\r\nContent-Type: application/json\r\n\r\n{about}\r\n--edge\r\n"
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        condition = "&ifGenerationMatch=0" if self.headers.get("x-goog-if-generation-match") == "0" else ""
        status, _, answer = self._ask(
            "POST",
            f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart{condition}",
            related + body + b"\r\n--edge--\r\n",
            {"Content-Type": "multipart/related; boundary=edge"},
        )
        headers = {}
        if status == 200:
            made = json.loads(answer)
            headers = {"ETag": f'"{made["etag"].strip(chr(34))}"', "x-goog-generation": str(made["generation"])}
        self._reply(status, headers, b"")

    def do_DELETE(self) -> None:
        bucket, _, name = self.path.lstrip("/").partition("/")
        status, _, _ = self._ask("DELETE", f"/storage/v1/b/{bucket}/o/{quote(unquote(name), safe='')}", b"", {})
        self._reply(404 if status == 404 else 204, {}, b"")

    def do_GET(self) -> None:
        self._hand_on("GET")

    def do_HEAD(self) -> None:
        self._hand_on("HEAD")

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""

    def _hand_on(self, method: str) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_HEADERS}
        self._reply(*self._ask(method, self.path, b"", headers))

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=30)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in HOP_HEADERS:
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
