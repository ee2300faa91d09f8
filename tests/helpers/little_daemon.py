"""A daemon that only welcomes: for tests of starting one. `python little_daemon.py RUNTIME MODE`.

It keeps the two rules of every daemon: its owner lock is taken before it listens, and its socket is removed before the
lock is released. It leaves when its last client has. Each start adds a line to RUNTIME/starts.

MODE: "serve"; "die": end at once with a message; "late": listen only once RUNTIME/go exists.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
import time
from pathlib import Path

from fastfeed.wire import messages as m
from fastfeed.wire.framing import MESSAGE_BYTES_MAX, unpack_frame
from fastfeed.wire.starting import tell_ready

# A daemon that nobody has reached yet waits so long for its first client, whatever its idle exit is.
FIRST_CLIENT_S = 10.0


def main() -> int:
    runtime, mode = Path(sys.argv[1]), sys.argv[2]
    if mode == "die":
        print("the cache disk is on fire", file=sys.stderr)
        return 3
    while mode == "late" and not (runtime / "go").exists():
        time.sleep(0.005)
    owner = os.open(runtime / "owner.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(owner, fcntl.LOCK_EX)
    with (runtime / "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path = runtime / "cache.sock"
    path.unlink(missing_ok=True)
    listener.bind(str(path))
    listener.listen(128)
    tell_ready(os.environ)
    serve(listener)
    path.unlink()
    return 0


def serve(listener: socket.socket) -> None:
    """Until the last client has gone."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    clients: dict[int, socket.socket] = {}
    had_one = False
    while clients or not had_one:
        events = poll.poll(FIRST_CLIENT_S * 1000)
        if not events:
            return
        for descriptor, _ in events:
            if descriptor == listener.fileno():
                client, _ = listener.accept()
                clients[client.fileno()] = client
                poll.register(client, select.POLLIN)
                had_one = True
                continue
            try:
                packet = clients[descriptor].recv(MESSAGE_BYTES_MAX)
            except ConnectionResetError:
                packet = b""
            if packet:
                welcome = m.Welcome(version=1, daemon_epoch=1, token=bytes(16), daemon_pid=os.getpid())
                clients[descriptor].send(m.pack(welcome, unpack_frame(packet).request))
            else:
                poll.unregister(descriptor)
                clients.pop(descriptor).close()


if __name__ == "__main__":
    sys.exit(main())
