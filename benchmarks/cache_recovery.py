"""How long a pool of the node cache takes to open, after a kill and after a power loss.

    python benchmarks/cache_recovery.py                # 1 TiB of slots
    python benchmarks/cache_recovery.py --gib 8192

The table and the words are real and full; the slab is a sparse file, as opening reads no slots. Objects of 256 MiB.
Printed: seconds until every slot can be found, on the clock and of a processor, and how much memory it took.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.machine import describe
from fastfeed._native.cache import CHUNK_BYTES, SLOT_BYTES
from fastfeed._native.checksum import crc32c_blocks
from fastfeed.cache.opening import Machine
from fastfeed.cache.options import DiskOptions, PoolOptions
from fastfeed.cache.policy_evictor import FutureEvictor
from fastfeed.cache.pool import Pool
from fastfeed.cache.slot_table import ENTRY_BYTES, ENTRY_TYPE, HEADER_BYTES

CHUNKS_OF_OBJECT = 256
DISK_BYTES = 64 << 40  # as the machine would say of a disk that is large enough
BOOTS = (bytes(16), bytes(15) + b"\1")


def machine(boot: bytes) -> Machine:
    return Machine(boot_id=lambda: boot, disk_bytes=lambda folder: (DISK_BYTES, DISK_BYTES))


def fill(options: PoolOptions, slots: int) -> None:
    """Let table, words and slab say that all slots are published."""
    with Pool.open(options, FutureEvictor(slots), machine(BOOTS[0])):
        pass
    folder = options.disks[0].path / options.name
    entries = np.zeros(slots, dtype=ENTRY_TYPE)
    numbers = np.arange(slots, dtype=np.uint64)
    keys = np.zeros((slots, 2), dtype="<u8")
    keys[:, 0] = numbers // CHUNKS_OF_OBJECT * np.uint64(0x9E3779B97F4A7C15)
    entries["key"] = keys.view("V16").reshape(-1)
    entries["chunk"], entries["length"] = numbers % CHUNKS_OF_OBJECT, CHUNK_BYTES
    entries["generation"], entries["sequence"] = 2 * numbers + 2, numbers + 1
    raw = entries.view(np.uint8).reshape(slots, ENTRY_BYTES)
    entries["crc"] = crc32c_blocks(np.ascontiguousarray(raw[:, : ENTRY_BYTES - 4]), ENTRY_BYTES - 4)
    with open(folder / "slots", "r+b") as table:
        table.seek(HEADER_BYTES)
        entries.tofile(table)
    os.truncate(folder / "slab.0", slots * SLOT_BYTES)
    with open(options.words_path / f"{options.name}.words", "r+b") as words:
        entries["generation"].tofile(words)


def memory_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(options: PoolOptions, slots: int, boot: bytes) -> str:
    evictor = FutureEvictor(slots)
    before_bytes, begun_s, begun_cpu_s = memory_bytes(), time.perf_counter(), time.process_time()
    with Pool.open(options, evictor, machine(boot)) as pool:
        took_s, cpu_s, found = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s, pool.recovery
        assert found.warm_slots + found.unproven_slots == slots, found
        return (
            f"{took_s:.2f} s, {cpu_s:.2f} s of a processor, {(memory_bytes() - before_bytes) / 1e6:.0f} MB: "
            f"{found.warm_slots} slots warm, "
            f"{found.unproven_slots} to be checked"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=int, default=1024, help="size of the pool")
    arguments = parser.parse_args()
    slots = arguments.gib * 1024
    print(describe("numpy"))
    root = Path(tempfile.mkdtemp())
    words = Path(tempfile.mkdtemp(prefix="ff-words-", dir="/dev/shm"))
    try:
        options = PoolOptions(
            name="default", limit_bytes=(slots + 1) * (SLOT_BYTES + ENTRY_BYTES), words_path=words,
            disks=(DiskOptions(name="disk", path=root / "disk"),),
        )  # fmt: skip
        fill(options, slots)
        print(f"{arguments.gib} GiB after a kill: {measure(options, slots, BOOTS[0])}")
        shutil.rmtree(words)
        print(f"{arguments.gib} GiB after a power loss: {measure(options, slots, BOOTS[1])}")
    finally:
        shutil.rmtree(root)
        shutil.rmtree(words, ignore_errors=True)


if __name__ == "__main__":
    main()
