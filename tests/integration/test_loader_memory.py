"""What a loader costs in memory: flat over epochs, little for each thread, and given back with the batches.

Each measurement is a process of its own: memory that other tests left with the allocator is in nobody's way there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastfeed as ff
from tests.helpers.photographs import FILES, encode, photograph
from tests.helpers.programs import unmeasured_environment

PROGRAM = """
import json, sys
from pathlib import Path
import fastfeed as ff

place, threads, epochs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def pss_bytes():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))

crop = [ff.image.RandomResizedCrop(224), ff.image.RandomHorizontalFlip()]
found = []
with ff.Loader(place, batch_size=16, threads=threads, prefetch_factor=4, transforms={"image": crop}) as loader:
    for epoch in range(epochs):
        for batch in loader:
            pass
        found.append(pss_bytes())
    slots = loader.stats()["slots"]
print(json.dumps({"pss": found, "slots": slots}))
"""

# A thread has a group of at most 2 MiB between reading and placing, its decoder's rows and tables, a stack and what the
# allocator keeps for it.
THREAD_BYTES_MAX = 16 << 20
# Between the end of the second epoch and the last: what allocators keep differs from epoch to epoch.
DRIFT_BYTES_MAX = 12 << 20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("memory") / "data"
    schema = ff.Schema({"image": ff.Image(), "text": ff.Text(codec="zstd"), "vector": ff.Array("float32", (None,))})
    images = [encode(photograph(name).resize((500, 375)), format="JPEG", quality=95) for name in FILES]
    with ff.DatasetWriter(place, schema) as writer:
        for row in range(480):
            writer.write({"image": images[row % len(images)], "text": f"row {row} " * (row % 300),
                          "vector": np.zeros(row * 7 % 5000, np.float32)})
    return place


def measured(place: Path, threads: int, epochs: int) -> tuple[list[int], dict[str, int]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(place), str(threads), str(epochs)], check=True,
                          capture_output=True, text=True, timeout=120, env=unmeasured_environment())
    found = json.loads(done.stdout)
    return found["pss"], found["slots"]


def test_memory_is_flat_over_epochs_and_little_for_each_thread(place):
    few, slots = measured(place, 1, 6)
    many, _ = measured(place, 5, 2)
    print(f"PSS after each epoch: {[size >> 20 for size in few]} MiB; with 4 threads more: {many[-1] >> 20} MiB")
    assert few[-1] - few[1] < DRIFT_BYTES_MAX, few
    assert many[-1] - few[1] < 4 * THREAD_BYTES_MAX, (few, many)
    assert slots["all"] <= 4 + 8
    assert slots["held"] <= 1
