"""Root, in a mount namespace of its own: a daemon with read-only mounts, and a client that tries to write all the same.

`unshare --mount --propagation private python readonly_mounts_program.py FOLDER` prints the errors as JSON.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

from fastfeed.cache.descriptors import bind_read_only
from fastfeed.wire import messages as m
from tests.helpers.raw_client import RawClient
from tests.helpers.running_daemon import RunningDaemon


def written(descriptor: int) -> str:
    """What comes of writing to a file whose descriptor we have: opened anew for writing, by each way there is."""
    outcome = ""
    for way in (f"/proc/self/fd/{descriptor}", f"/dev/fd/{descriptor}", os.readlink(f"/proc/self/fd/{descriptor}")):
        try:
            again = os.open(way, os.O_RDWR)
        except OSError as error:
            outcome = errno.errorcode[error.errno or 0]
            continue
        try:
            os.pwrite(again, b"\xff" * 8, 0)
            return "written"
        except OSError as error:
            outcome = errno.errorcode[error.errno or 0]
        finally:
            os.close(again)
    return outcome


def main() -> None:
    folder = Path(sys.argv[1])
    disk, read_only, read_only_words = folder / "disk", folder / "ro", folder / "ro-words"
    for each in (disk, read_only, read_only_words):
        each.mkdir(mode=0o700)
    flags = {"disks.default.readonly_path": str(read_only), "words_readonly_path": str(read_only_words)}
    daemon = RunningDaemon(folder, {"data.bin": b"x" * 5000}, flags=flags)
    bind_read_only(disk, read_only)
    bind_read_only(daemon.words, read_only_words)
    with daemon, RawClient(daemon.socket) as client:
        _, (chunk_map,) = client.control.ask(m.OpenUrl(set=0, url=daemon.url("data.bin"), deadline_ms=9999))
        assert client.read(0, 5000) == b"x" * 5000
        # By its name a slab of this daemon can be written by root: that is no descriptor of the client's.
        print(json.dumps({
            "slab": written(client.slab_fds[0]),
            "words": written(client.words_fd),
            "map": written_memory(chunk_map),
            "ring": written_memory(client.ring_fd),
        }))  # fmt: skip


def written_memory(descriptor: int) -> str:
    again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
    try:
        os.pwrite(again, b"\xff", 0)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    finally:
        os.close(again)
    return "written"


if __name__ == "__main__":
    main()
