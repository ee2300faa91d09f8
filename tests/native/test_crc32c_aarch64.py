"""The ARMv8 crc32c, cross-compiled and run under qemu's user emulation against the vectors of the other ones."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"
COMPILER = "aarch64-linux-gnu-g++"
EMULATORS = ("qemu-aarch64", "qemu-aarch64-static")
PACKAGES = ["g++-aarch64-linux-gnu", "qemu-user"]
FLAGS = ["-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{CSRC}"]
APT_TIMEOUT_S = 280


def find_emulator() -> str | None:
    return next((path for name in EMULATORS if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def emulator() -> str:
    """The emulator; it and the cross compiler are installed where they are missing and we may."""
    if not shutil.which(COMPILER) or not find_emulator():
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            pytest.skip(f"needs {' and '.join(PACKAGES)}: apt-get install {' '.join(PACKAGES)}")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]):
            subprocess.run(command, env=environment, check=True, capture_output=True, timeout=APT_TIMEOUT_S)
    found = find_emulator()
    assert found is not None, f"{' '.join(PACKAGES)} gave none of {EMULATORS}"
    return found


def build(folder: Path) -> Path:
    """A static program of csrc/tests/test_crc32c.cpp for aarch64."""
    sources: list[tuple[Path, list[str]]] = [
        (CSRC / "tests" / "test_crc32c.cpp", []),
        (CSRC / "format" / "crc32c.cpp", []),
        (CSRC / "format" / "crc32c_armv8.cpp", ["-march=armv8-a+crc"]),
    ]
    objects = []
    for source, flags in sources:
        objects.append(folder / (source.stem + ".o"))
        subprocess.run([COMPILER, *FLAGS, *flags, "-c", str(source), "-o", str(objects[-1])], check=True)
    program = folder / "test_crc32c"
    subprocess.run([COMPILER, "-static", *map(str, objects), "-o", str(program)], check=True)
    return program


@pytest.mark.timeout(900)  # the first run may install packages
def test_armv8_instructions_give_the_same_crcs(emulator: str, tmp_path: Path) -> None:
    program = build(tmp_path)
    done = subprocess.run([emulator, "-cpu", "max", str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "implementation armv8" in done.stdout
    assert "patterns_of_all_lengths_hold" in done.stdout
