"""A small real disk: ext4 in a file, mounted by loop. Root only: others are skipped, since none may mount."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")


@contextlib.contextmanager
def loop_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """The mount point. All of its blocks are everybody's: root has no reserve that hides a full disk."""
    image, place = folder / "disk.ext4", folder / "mounted"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(size_bytes)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
        image.unlink()
