"""A disk that fails, hangs or tears writes on command, for the programs of a test: disk_shim.c, compiled and preloaded.

    disk = BadDisk(tmp_path, match="/bad/")
    CacheDaemon(..., environment=disk.environment)
    disk.set(Mode.HANG)
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("disk_shim.c")
CONTROL_BYTES = 4096


class Mode(enum.IntEnum):
    """What happens to files whose path contains `match`."""

    NOTHING = 0
    EIO_READS = 1
    EIO_WRITES = 2
    EIO_BOTH = 3
    HANG = 4
    TEAR = 5


class BadDisk:
    """The library, its control page, and the environment that brings both to a process."""

    def __init__(self, folder: Path, match: str) -> None:
        library, control = folder / "disk_shim.so", folder / "disk_shim.control"
        subprocess.run([os.environ.get("CC", "gcc"), "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library),
                        str(SOURCE), "-ldl"], check=True)
        control.write_bytes(bytes(CONTROL_BYTES))
        with open(control, "r+b") as file:
            self._page = mmap.mmap(file.fileno(), CONTROL_BYTES)
        self.environment = {"LD_PRELOAD": str(library), "FF_SHIM_CONTROL": str(control), "FF_SHIM_MATCH": match}

    def set(self, mode: Mode, milliseconds: int = 0) -> None:
        struct.pack_into("<i", self._page, 4, milliseconds)
        struct.pack_into("<i", self._page, 0, mode)

    def hits(self) -> tuple[int, int]:
        """Reads and writes that were hit so far."""
        reads, writes = struct.unpack_from("<ii", self._page, 8)
        return reads, writes

    def close(self) -> None:
        self._page.close()
