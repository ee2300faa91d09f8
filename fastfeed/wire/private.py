"""The small fetcher of one job: a daemon without slots, in a directory of its own, that ends with those who use it.

Made for `cache="off"`. The process that asks first makes the directory and starts the daemon as its child; processes
that it forks, and those to which it pickles a dataset, use the same one. The daemon leaves when its last session has
ended. Who starts one holds a lock in the directory as long as it lives, and so do its forks; directories that nobody
holds are removed by the next who makes one, since a process that is killed cannot clean up.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fastfeed.wire.places import SOCKET_NAME, make_private_directory
from fastfeed.wire.starting import Launched, daemon_command, launch_child

PREFIX = "off-"
HOLD = "held"
# A daemon whose sessions have all ended has nothing to wait for but its last answers.
END_TIMEOUT_S = 10.0


class PrivateDaemons:
    """Those of this process: at most one directory, and the children that were started."""

    def __init__(self) -> None:
        self._socket: Path | None = None
        self._holds: dict[Path, int] = {}
        self._children: list[subprocess.Popen[bytes]] = []

    def socket(self, parent: Path) -> Path:
        """The socket of this process's own fetcher, below the runtime directory `parent`. Nothing is started."""
        if self._socket is None:
            make_private_directory(parent, os.geteuid())
            _sweep(parent)
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            self._hold(folder)
            self._socket = folder / SOCKET_NAME
        return self._socket

    def launch(self, runtime: Path, environ: Mapping[str, str]) -> Launched:
        """Start a fetcher in `runtime`, as a child of this process."""
        self._hold(runtime)
        ours = {
            "FASTFEED_RUNTIME_DIR": str(runtime),
            "FASTFEED_CACHE_LIMIT": "0",
            "FASTFEED_CACHE_IDLE_EXIT": "0s",
            "FASTFEED_CACHE_HTTP": "off",
        }
        theirs = {name: value for name, value in environ.items() if name != "FASTFEED_CACHE_SOCKET"}
        launched = launch_child(runtime, daemon_command(), {**theirs, **ours})
        assert launched.child is not None
        self._children.append(launched.child)
        return launched

    def forked(self) -> None:
        """In a child, after fork: the daemon and the directory are the parent's; only its lock is held on."""
        for child in self._children:
            child.returncode = 0  # not ours to wait for
        self._children.clear()

    def close(self) -> None:
        """After the process's sessions have ended: collect the children, and remove what nobody holds any more."""
        for child in self._children:
            try:
                child.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.terminate()
                child.wait()
        self._children.clear()
        for folder, hold in self._holds.items():
            os.close(hold)
            _remove_unheld(folder)
        self._holds.clear()
        self._socket = None

    def _hold(self, folder: Path) -> None:
        if folder in self._holds:
            return
        hold = os.open(folder / HOLD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(hold, fcntl.LOCK_SH)
        self._holds[folder] = hold


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        _remove_unheld(folder)


def _remove_unheld(folder: Path) -> None:
    with suppress(FileNotFoundError):
        hold = os.open(folder / HOLD, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(hold)
