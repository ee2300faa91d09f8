"""What stands between the demo's shards and its training: an HTTP origin, and the cache daemon that a loader starts.

Both are the demo's own and end with it. The daemon's socket and slot words are in RAM, its slots in the demo's folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastfeed.wire.sessions import close_sessions

CACHE_LIMIT = "2GiB"
# Short, for a socket's path; in RAM, where every Linux has one.
RUNTIME_PARENT = Path("/dev/shm")


@contextmanager
def origin(folder: Path) -> Iterator[str]:
    """The URL of a web server that serves `folder`. Says in the end what it has sent."""
    program = [sys.executable, str(Path(__file__).with_name("origin.py")), str(folder)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()
            sent_bytes = int(server.stdout.readline() or 0)
            print(f"the origin sent {sent_bytes / 1e6:.1f} MB of shards, in all epochs and the test together")


@contextmanager
def embedded_cache(folder: Path) -> Iterator[None]:
    """From here on, who opens a URL in this process starts a daemon that keeps its slots in `folder`, empty now. It is
    asked to leave in the end."""
    shutil.rmtree(folder, ignore_errors=True)
    runtime = tempfile.mkdtemp(prefix="fastfeed-demo-", dir=RUNTIME_PARENT if RUNTIME_PARENT.is_dir() else None)
    settings = {
        "FASTFEED_RUNTIME_DIR": runtime,
        "FASTFEED_CACHE_WORDS": runtime,
        "FASTFEED_CACHE_DIR": str(folder.absolute()),
        "FASTFEED_CACHE_LIMIT": CACHE_LIMIT,
    }
    before = {name: os.environ.pop(name, None) for name in (*settings, "FASTFEED_CACHE_SOCKET")}
    os.environ.update(settings)
    try:
        yield
    finally:
        # First: who has a dataset open would start a daemon again. By itself it would leave after a minute.
        close_sessions()
        if Path(socket()).exists():
            fastfeed("cache", "drain", "--quiet", "--socket", socket())
        shutil.rmtree(runtime)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def socket() -> str:
    """Where the demo's daemon listens."""
    return f"{os.environ['FASTFEED_RUNTIME_DIR']}/cache.sock"


def fastfeed(*words: str) -> str:
    return subprocess.run([sys.executable, "-m", "fastfeed", *words], check=True, capture_output=True, text=True).stdout
