"""What depends on the processor, cross-compiled for AArch64 and run under qemu's user emulation.

The crc32c of ARMv8, against the vectors of the other ones; and the cache's protocol of slot words, with threads.
"""

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


def build(folder: Path, test: str, *core: str) -> Path:
    """A static program for aarch64, of csrc/tests/<test>.cpp, crc32c and the sources `core`."""
    objects = []
    for name in (f"tests/{test}", "format/crc32c", "format/crc32c_armv8", *core):
        objects.append(folder / (Path(name).stem + ".o"))
        flags = ["-march=armv8-a+crc"] if name.endswith("_armv8") else []
        subprocess.run([COMPILER, *FLAGS, *flags, "-c", str(CSRC / f"{name}.cpp"), "-o", str(objects[-1])], check=True)
    program = folder / test
    subprocess.run([COMPILER, "-static", *map(str, objects), "-lpthread", "-o", str(program)], check=True)
    return program


def run(emulator: str, program: Path) -> str:
    done = subprocess.run([emulator, "-cpu", "max", str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(900)  # the first run may install packages
def test_armv8_instructions_give_the_same_crcs(emulator: str, tmp_path: Path) -> None:
    output = run(emulator, build(tmp_path, "test_crc32c"))
    assert "implementation armv8" in output
    assert "patterns_of_all_lengths_hold" in output


@pytest.mark.timeout(900)
def test_readers_of_slots_that_are_used_again_accept_nothing_wrong(emulator: str, tmp_path: Path) -> None:
    """The fences and the compiler's order are AArch64's; loads and stores, under qemu, are as strong as this machine's.
    csrc/tests/test_cache_model.cpp has the weak ones."""
    core = ["cache/mapping", "cache/slab", "cache/trailer", "cache/words"]
    output = run(emulator, build(tmp_path, "test_cache_protocol", *core))
    assert "what_readers_accept_is_what_they_asked_for" in output
