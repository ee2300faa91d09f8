"""An HTTP origin of a folder that misbehaves as told: delays, limits, cuts, corrupts, refuses.

A process of its own, so that what it does to its connections cannot slow its test down, and so that it can be killed:

    with FaultyHttp(folder) as origin:
        ff.open(f"{origin.url}/data")
        origin.set(delay_s=0.05, chances={"reset": 0.1, "corrupt": 0.05})
        origin.counts()["bytes"]

It knows GET and HEAD, one range a request, If-Match, strong ETags from a file's size and time, keep-alive, and listings
of folders as nginx gives them (`autoindex_format json`). What goes wrong is drawn anew for each request, from a seed.
Faults: "503", "429" (both with Retry-After), "reset" (in mid-body, by RST), "short" (closed before the end), "trickle"
(a little a second), "hang" (a head, then nothing), and three that no length betrays: "corrupt" (one bit), "zeros"
(64 KiB of them), "elsewhere" (bytes of another place of the file).
"""

from __future__ import annotations

import asyncio
import collections
import email.utils
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tests.helpers.programs import unmeasured_environment

PIECE_BYTES = 256 << 10
HEAD_BYTES_MAX = 64 << 10
ZEROS_BYTES = 64 << 10
ELSEWHERE_BYTES = 4096
TRICKLE_PIECE_BYTES = 1 << 10
ANSWER_S_MAX = 30.0
REFUSALS = {"503": (503, "Service Unavailable"), "429": (429, "Too Many Requests")}


@dataclass
class Behaviour:
    """What is done to requests from now on. `chances`: fault -> share of the requests with `paths` in their path."""

    delay_s: float = 0.0
    bytes_per_s: float = 0.0  # of all connections together; 0: no limit
    trickle_bytes_per_s: float = 4096.0
    retry_after_s: int = 1
    hang_s: float = 3600.0
    chances: dict[str, float] = field(default_factory=dict)
    paths: str = ".ffs"

    def drawn(self, path: str, rng: random.Random) -> str | None:
        """The fault of one request."""
        if self.paths not in path:
            return None
        draw = rng.random()
        for fault, chance in self.chances.items():
            if draw < chance:
                return fault
            draw -= chance
        return None


class Line:
    """A token bucket that all connections share, without a burst: what is sent waits until the line is free."""

    def __init__(self) -> None:
        self._free_at = 0.0

    async def carry(self, size: int, bytes_per_s: float) -> None:
        if bytes_per_s <= 0:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + size / bytes_per_s
        await asyncio.sleep(self._free_at - now)


class Server:
    """The server inside of its process."""

    def __init__(self, root: Path, seed: int) -> None:
        self.behaviour = Behaviour()
        self.counts: collections.Counter[str] = collections.Counter()
        self._root = root.resolve()
        self._rng = random.Random(seed)
        self._line = Line()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["connections"] += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if not await self._answer(head.decode("latin-1"), writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        path = urllib.parse.unquote(target.partition("?")[0])
        behaviour = self.behaviour
        fault = behaviour.drawn(path, self._rng)
        self.counts["requests"] += 1
        if behaviour.delay_s:
            await asyncio.sleep(behaviour.delay_s)
        if fault:
            self.counts[fault] += 1
        if fault in REFUSALS:
            status, reason = REFUSALS[fault]
            return await self._plain(writer, status, reason, b"", {"Retry-After": str(behaviour.retry_after_s)})
        file = (self._root / path.lstrip("/")).resolve()
        if not file.is_relative_to(self._root) or not file.exists():
            return await self._plain(writer, 404, "Not Found", b"")
        if file.is_dir():
            return await self._listing(writer, file, method)
        return await self._file(writer, file, method, headers, fault)

    async def _plain(self, writer: asyncio.StreamWriter, status: int, reason: str, body: bytes,
                     headers: dict[str, str] | None = None) -> bool:
        lines = [f"{name}: {value}" for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items()]
        writer.write("\r\n".join([f"HTTP/1.1 {status} {reason}", *lines, "", ""]).encode() + body)
        await writer.drain()
        return True

    async def _listing(self, writer: asyncio.StreamWriter, folder: Path, method: str) -> bool:
        entries: list[dict[str, Any]] = []
        for entry in sorted(folder.iterdir()):
            stat = entry.stat()
            time_text = email.utils.formatdate(stat.st_mtime, usegmt=True)
            entries.append({"name": entry.name, "type": "directory", "mtime": time_text} if entry.is_dir() else
                           {"name": entry.name, "type": "file", "mtime": time_text, "size": stat.st_size})
        body = b"" if method == "HEAD" else json.dumps(entries).encode()
        return await self._plain(writer, 200, "OK", body, {"Content-Type": "application/json"})

    async def _file(self, writer: asyncio.StreamWriter, path: Path, method: str, headers: dict[str, str],
                    fault: str | None) -> bool:
        with open(path, "rb") as file:
            stat = os.fstat(file.fileno())
            etag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
            if headers.get("if-match", etag) not in (etag, "*"):
                return await self._plain(writer, 412, "Precondition Failed", b"")
            start, stop = asked_range(headers.get("range"), stat.st_size)
            if start >= stop and stat.st_size:
                return await self._plain(writer, 416, "Range Not Satisfiable", b"",
                                         {"Content-Range": f"bytes */{stat.st_size}"})
            answer = {"Content-Length": str(stop - start), "ETag": etag, "Accept-Ranges": "bytes",
                      "Content-Type": "application/octet-stream",
                      "Last-Modified": email.utils.formatdate(stat.st_mtime, usegmt=True)}
            status = "200 OK"
            if "range" in headers:
                status = "206 Partial Content"
                answer["Content-Range"] = f"bytes {start}-{stop - 1}/{stat.st_size}"
            lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in answer.items()), "", ""]
            writer.write("\r\n".join(lines).encode())
            if method == "HEAD":
                await writer.drain()
                return True
            return await self._body(writer, file, start, stop, fault)

    async def _body(self, writer: asyncio.StreamWriter, file: BinaryIO, start: int, stop: int,
                    fault: str | None) -> bool:
        behaviour = self.behaviour
        ends_at = self._rng.randrange(start, stop) if fault in ("reset", "short") and stop > start else stop
        bad_at = self._rng.randrange(start, stop) if stop > start else start
        piece_bytes = TRICKLE_PIECE_BYTES if fault == "trickle" else PIECE_BYTES
        if fault == "hang":
            await writer.drain()
            await asyncio.sleep(behaviour.hang_s)
            return False
        at = start
        while at < ends_at:
            size = min(piece_bytes, ends_at - at)
            file.seek(at + ELSEWHERE_BYTES if fault == "elsewhere" else at)
            piece = file.read(size)
            if len(piece) < size:
                piece = piece.ljust(size, b"\0")
            if fault == "corrupt" and at <= bad_at < at + size:
                flipped = bytearray(piece)
                flipped[bad_at - at] ^= 1 << self._rng.randrange(8)
                piece = bytes(flipped)
            if fault == "zeros" and at <= bad_at < at + size:
                middle = bad_at - at
                piece = piece[:middle] + bytes(min(ZEROS_BYTES, size - middle)) + piece[middle + ZEROS_BYTES :]
            await self._line.carry(size, behaviour.bytes_per_s)
            if fault == "trickle":
                await asyncio.sleep(size / behaviour.trickle_bytes_per_s)
            writer.write(piece)
            await writer.drain()
            self.counts["bytes"] += size
            at += size
        if fault == "reset":
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return fault not in ("reset", "short")


def asked_range(value: str | None, size: int) -> tuple[int, int]:
    """[start, stop) of a Range header; the whole file where there is none."""
    if value is None:
        return 0, size
    first, _, last = value.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1 if last else size)


async def run(root: Path, seed: int) -> None:
    """Print the port; then take one line of JSON a command from standard input, until it ends."""
    server = Server(root, seed)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=HEAD_BYTES_MAX, backlog=1024)
    print(listening.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        if command is not None:
            server.behaviour = Behaviour(**command)
        print(json.dumps(server.counts), flush=True)
    os._exit(0)  # connections that hang are not waited for


class FaultyHttp:
    """The server's process, and the way to tell it."""

    def __init__(self, root: Path, seed: int = 0) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "tests.helpers.faulty_http", str(root), str(seed)],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                         env=unmeasured_environment())
        self.port = int(self._line())
        self.url = f"http://127.0.0.1:{self.port}"

    def set(self, **behaviour: Any) -> None:
        """From the next request on; what is not named is as it is in Behaviour()."""
        self._tell(behaviour)

    def counts(self) -> collections.Counter[str]:
        """Requests, connections, bytes of bodies, and how often each fault was done."""
        return collections.Counter(self._tell(None))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _tell(self, command: dict[str, Any] | None) -> dict[str, int]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer: dict[str, int] = json.loads(self._line())
        return answer

    def _line(self) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], ANSWER_S_MAX)
        assert ready, f"the origin of the test said nothing for {ANSWER_S_MAX:.0f} s"
        line = self._process.stdout.readline()
        assert line, f"the origin of the test ended with code {self._process.wait()}"
        return line

    def __enter__(self) -> FaultyHttp:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2])))
