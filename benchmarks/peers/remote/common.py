"""What the peers share: the samples, and what a program of a peer says.

Imports nothing of fastfeed and nothing but the standard library: it runs in each peer's own environment. A sample is
a number and bytes; the bytes begin with the number and are noise, so no codec can shorten them.
"""

from __future__ import annotations

import json
import random
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

BATCH = 64
WORKERS = 2
MEAN_BYTES = 100_000
NOISE_BYTES = 32 << 20


def samples(count: int, mean_bytes: int = MEAN_BYTES) -> Iterator[tuple[int, bytes]]:
    """The same for the same count, wherever it runs. Sizes are between half and one and a half of the mean."""
    draw = random.Random(count)
    noise = draw.randbytes(NOISE_BYTES)
    for number in range(count):
        size = draw.randrange(mean_bytes // 2, mean_bytes * 3 // 2)
        start = draw.randrange(NOISE_BYTES - size)
        yield number, number.to_bytes(8, "little") + noise[start : start + size]


def number_of(data: Any) -> int:
    return int.from_bytes(bytes(data[:8]), "little")


def keep(items: list[Any]) -> list[Any]:
    """A collate function that leaves a batch as it is: nobody's tensors are measured here."""
    return items


def run_epochs(epoch: Callable[[int], Iterable[Iterable[Any]]], count: int, check: bool) -> None:
    """Read two epochs of batches of samples' bytes, and print a line of JSON for each; a wrong set of samples ends it.

    `epoch(number)` gives the epoch's batches; what it does before the first batch is in the time of the epoch.
    """
    crcs = [zlib.crc32(data) for _, data in samples(count)] if check else None
    for number in range(2):
        started = time.perf_counter()
        first_s, size, seen = 0.0, 0, []
        for batch in epoch(number):
            first_s = first_s or time.perf_counter() - started
            for data in batch:
                size += len(data)
                seen.append(number_of(data))
                if crcs is not None:
                    assert zlib.crc32(data) == crcs[seen[-1]], f"sample {seen[-1]} has wrong bytes"
        elapsed_s = time.perf_counter() - started
        if sorted(seen) != list(range(count)):
            sys.exit(f"{len(seen)} samples came, {len(set(seen))} of them distinct, of {count}")
        print(json.dumps({"epoch": number + 1, "s": elapsed_s, "first_s": first_s, "bytes": size, "checked": check}),
              flush=True)


def run_program(write: Callable[[Path, int], None], read: Callable[[str, Path, int, bool], None]) -> None:
    """A peer's program: `write FOLDER COUNT`, or `read URL CACHE COUNT check|count FOLDER` (for JuiceFS)."""
    action, *rest = sys.argv[1:]
    if action == "write":
        folder, count = rest
        write(Path(folder), int(count))
    else:
        url, cache, count, checks, _ = rest
        read(url, Path(cache), int(count), checks == "check")
