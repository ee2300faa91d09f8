"""The failing disk of the fault tests fails: of this process's own programs, and only the files that it is to hit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.bad_disk import BadDisk, Mode
from tests.helpers.programs import unmeasured_environment

PROGRAM = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
for name, act in {"write": lambda: os.pwrite(fd, b"abcd", 0), "read": lambda: os.pread(fd, 4, 0),
                  "parts": lambda: os.preadv(fd, [bytearray(4)], 0),
                  "large": lambda: os.pwrite(fd, bytes((1 << 20) + 2), 0)}.items():
    try:
        print(name, act())
    except OSError as error:
        print(name, error.errno)
"""


def run(disk: BadDisk, file: Path) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(file)], stdout=subprocess.PIPE, text=True, check=True,
                          env={**unmeasured_environment(), **disk.environment})
    return done.stdout.splitlines()


@pytest.mark.parametrize(("mode", "said"), [
    (Mode.NOTHING, ["write 4", "read b'abcd'", "parts 4", "large 1048578"]),
    (Mode.EIO_READS, ["write 4", "read 5", "parts 5", "large 1048578"]),
    (Mode.EIO_WRITES, ["write 5", "read b''", "parts 0", "large 5"]),
    (Mode.TEAR, ["write 4", "read b'abcd'", "parts 4", "large 524289"]),
])  # fmt: skip
def test_the_bad_disk_does_what_it_is_told_to_its_files_and_to_no_others(tmp_path: Path, mode: Mode, said: list[str]):
    disk = BadDisk(tmp_path, match="/bad")
    try:
        disk.set(mode)
        assert run(disk, tmp_path / "bad") == said
        assert run(disk, tmp_path / "good") == ["write 4", "read b'abcd'", "parts 4", "large 1048578"]
        assert sum(disk.hits()) == sum(line.split()[1] in ("5", "524289") for line in said)
    finally:
        disk.close()
