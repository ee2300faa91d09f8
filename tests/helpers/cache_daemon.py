"""A real cache daemon in a folder of a test: `fastfeed cache serve --config FILE`, started, watched, killed by its pid.

    with CacheDaemon(tmp_path, limit="64MiB") as daemon:
        ff.open(url, cache=str(daemon.socket))
        daemon.kill(); daemon.start()

Its disks are folders below the test's, its runtime folder is in /dev/shm. All of it is gone in the end.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.helpers.programs import unmeasured_environment

START_S_MAX = 30.0
COMMAND_S_MAX = 30.0
POLL_S = 0.002
POOL = "default"


class CacheDaemon:
    """One daemon with one pool, for this user and any origin."""

    def __init__(self, folder: Path, *, limit: str, disks: Sequence[Path] | None = None, growth: str | None = None,
                 environment: Mapping[str, str] | None = None, settings: str = "", pool_settings: str = "",
                 origin_settings: str = "") -> None:
        """settings, pool_settings, origin_settings: lines of TOML more, at the top, of the pool, of its origins."""
        self.folder = folder
        self.disks = list(disks) if disks is not None else [folder / "disk"]
        # In RAM, for the words; and short, for the socket's path.
        self.runtime = Path(tempfile.mkdtemp(prefix="fastfeed-test-", dir="/dev/shm"))
        self.socket = self.runtime / "cache.sock"
        self.log = folder / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.starved_s = 0.0
        self._config = folder / "cache.toml"
        self._environment = dict(environment or {})
        self._parts = (settings, pool_settings, origin_settings, growth)
        folder.mkdir(parents=True, exist_ok=True)
        self.write_config(limit)

    def write_config(self, limit: str) -> None:
        """For the next start, or the next SIGHUP."""
        settings, pool_settings, origin_settings, growth = self._parts
        disks = [f'[disks.d{number}]\npath = "{path}"' for number, path in enumerate(self.disks)]
        growing = f'growth = "{growth}"' if growth else ""
        self._config.write_text("\n".join([
            f'runtime = "{self.runtime}"', 'http = "off"', settings, *disks,
            f"[pools.{POOL}]", f'limit = "{limit}"', growing, pool_settings,
            *(["[origin]", origin_settings] if origin_settings else []), ""]))

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> float:
        """Start it, and wait until it answers; how many seconds that took. `starved_s`: of these, those in which it was
        ready to run and others had the processors."""
        began, began_at = time.monotonic(), time.time()
        log = open(self.log, "ab")  # noqa: SIM115 (closed below; the daemon has its own)
        with log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fastfeed", "cache", "serve", "--config", str(self._config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**unmeasured_environment(), **self._environment})
        while not self.answers():
            assert self.process.poll() is None, f"the daemon ended with code {self.process.returncode}:\n{self.said()}"
            assert time.monotonic() < began + START_S_MAX, f"no answer in {START_S_MAX:.0f} s:\n{self.said()}"
            time.sleep(POLL_S)
        # By the socket's own time, which it has when it listens: on a busy machine we come to see it later.
        took_s = self.socket.stat().st_ctime - began_at
        # Of its first thread, which does all of it: on a processor, waiting for one (ns), and how often.
        self.starved_s = int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / 1e9
        return took_s

    def answers(self) -> bool:
        """Whether it takes connections: it listens when it has recovered."""
        import socket

        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            try:
                probe.connect(str(self.socket))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
        return True

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, as systemd stops it; its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(COMMAND_S_MAX)

    def reload(self, limit: str) -> None:
        self.write_config(limit)
        os.kill(self.pid, signal.SIGHUP)

    def command(self, *arguments: str) -> Any:
        """What `fastfeed cache ... --json` prints."""
        done = subprocess.run([sys.executable, "-m", "fastfeed", "cache", *arguments, "--json"],
                              env={**unmeasured_environment(), "FASTFEED_CACHE_SOCKET": str(self.socket)},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S_MAX,
                              check=False)
        assert done.returncode == 0, f"cache {arguments[0]} ended with {done.returncode}:\n{done.stderr}\n{self.said()}"
        return json.loads(done.stdout)

    def pool(self) -> dict[str, Any]:
        """The pool's part of the status."""
        pool: dict[str, Any] = self.command("status")["pools"][0]
        return pool

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            # A stopped process takes no SIGTERM; SIGKILL ends any.
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.runtime, ignore_errors=True)

    def __enter__(self) -> CacheDaemon:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
