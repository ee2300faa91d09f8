"""A line between a client and a server of this machine: a delay, and a rate that all connections share.

    with Line(port, rate_bytes_per_s=200e6, delay_s=0.05) as line:   # a process of its own
        read(f"http://127.0.0.1:{line.port}/...")

Bytes to the server are delayed by `delay_s`; bytes from it pass at the rate. Nothing is lost and nothing understood:
it is TCP on both sides. At 200 MB/s it takes about a seventh of a core, which the contenders do not have.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time

PIECE_BYTES = 256 << 10
# What may wait for its time in one direction of a connection: a line holds little, and who came first goes first.
PENDING_PIECES = 8


class Bucket:
    """When the line is free again."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0

    def due(self, size: int) -> float:
        now = time.monotonic()
        if self._bytes_per_s <= 0:
            return now
        self._free_at = max(self._free_at, now) + size / self._bytes_per_s
        return self._free_at


async def carry(source: socket.socket, target: socket.socket, bucket: Bucket, delay_s: float) -> None:
    """Everything that `source` says, to `target`, late; then its end."""
    loop = asyncio.get_running_loop()
    pending: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(PENDING_PIECES)

    async def send() -> None:
        while True:
            due, piece = await pending.get()
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if not piece:
                target.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(target, piece)

    sending = asyncio.ensure_future(send())
    try:
        piece = b"first"
        while piece:
            piece = await loop.sock_recv(source, PIECE_BYTES)
            await pending.put((bucket.due(len(piece)) + delay_s, piece))
        await sending
    finally:
        sending.cancel()


async def connect(client: socket.socket, port: int, bucket: Bucket, delay_s: float) -> None:
    server = socket.socket()
    server.setblocking(False)
    with client, server, contextlib.suppress(OSError):
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(server, ("127.0.0.1", port))
        await asyncio.gather(carry(client, server, Bucket(0), delay_s), carry(server, client, bucket, 0.0))


async def run(port: int, bytes_per_s: float, delay_s: float) -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listening.setblocking(False)
    print(listening.getsockname()[1], flush=True)
    bucket, loop, open_now = Bucket(bytes_per_s), asyncio.get_running_loop(), set()
    while True:
        client, _ = await loop.sock_accept(listening)
        task = asyncio.ensure_future(connect(client, port, bucket, delay_s))
        open_now.add(task)
        task.add_done_callback(open_now.discard)


class Line:
    """The process of a line to a port of this machine, and its own port."""

    def __init__(self, server_port: int, rate_bytes_per_s: float = 0.0, delay_s: float = 0.0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(server_port), str(rate_bytes_per_s), str(delay_s)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
