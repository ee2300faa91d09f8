"""Where the daemon's socket is, and whom to believe there.

`FASTFEED_CACHE_SOCKET` where it is set; else the system service's socket where there is one; else the socket of this
user's own daemon in the runtime directory. Pure functions of environment and user, and looks at the file system.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fastfeed.errors import ConfigError

SYSTEM_SOCKET = Path("/run/fastfeed/cache.sock")
SOCKET_NAME = "cache.sock"
# What the kernel calls a user whom this user namespace does not know.
OVERFLOW_UID = 65534
# The address of a Unix socket has 108 bytes with its final zero.
SOCKET_PATH_BYTES_MAX = 107


def runtime_directory(environ: Mapping[str, str], euid: int) -> Path:
    """The directory of this user's socket, start lock, log and slot words; not made here.

    $FASTFEED_RUNTIME_DIR, else $XDG_RUNTIME_DIR/fastfeed where that exists, else /tmp/fastfeed-<euid>.
    """
    if given := environ.get("FASTFEED_RUNTIME_DIR"):
        return Path(given).absolute()
    session = environ.get("XDG_RUNTIME_DIR")
    # A variable that sudo or a batch system carried over names another user's directory.
    if session and os.path.isdir(session) and os.stat(session).st_uid == euid and os.access(session, os.W_OK):
        return Path(session).absolute() / "fastfeed"
    return Path(f"/tmp/fastfeed-{euid}")


def make_private_directory(path: Path, euid: int) -> None:
    """Make `path` with mode 0700 where it is not there. ConfigError unless it is this user's alone: who may write there
    could give us a socket of their own."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"{path}: is no directory. Remove it, or set FASTFEED_RUNTIME_DIR to a directory of yours.")
    if status.st_uid != euid or status.st_mode & 0o077:
        raise ConfigError(
            f"{path}: belongs to user {status.st_uid} with mode {stat.S_IMODE(status.st_mode):04o}; it must be of user "
            f"{euid} with mode 0700. Remove it, or set FASTFEED_RUNTIME_DIR to a directory of yours."
        )


def own_socket(environ: Mapping[str, str], euid: int) -> Path:
    """The socket of this user's own daemon."""
    return runtime_directory(environ, euid) / SOCKET_NAME


def given_socket(environ: Mapping[str, str]) -> Path | None:
    """The socket that the environment names, or the system service's where there is one; None: neither. A daemon that
    someone else runs is never started by us."""
    if given := environ.get("FASTFEED_CACHE_SOCKET"):
        return Path(given).absolute()
    return SYSTEM_SOCKET if SYSTEM_SOCKET.is_socket() else None


def check_socket_path(path: Path) -> None:
    """ConfigError where a Unix socket cannot have this path."""
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise ConfigError(
            f"{path}: a socket's path has at most {SOCKET_PATH_BYTES_MAX} bytes. Set FASTFEED_RUNTIME_DIR or "
            "FASTFEED_CACHE_SOCKET to a shorter one."
        )


def believed_users(path: Path, euid: int) -> set[int]:
    """The users whose daemon is believed at this socket: us, root, and the socket's owner where nobody else could have
    put it there."""
    believed = {euid, 0}
    folder, owner = os.stat(path.parent), os.stat(path).st_uid
    if folder.st_uid in {*believed, owner} and not folder.st_mode & 0o022 and owner != OVERFLOW_UID:
        believed.add(owner)
    return believed
