"""Mixes windows of two token corpora: first nine of ten from the web, in the end half of them code.

    python mixture.py FOLDER

A mixture is given to a loader in a dataset's place. Which source each sample is of is a function of its position, so
a run resumes anywhere, on any number of ranks, without counting.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import fastfeed as ff

CONTEXT = 64
SAMPLES = 2_000
CHANGE = 1_200  # the position from which on there is more code
NAMES = ("web", "code")


def write(place: Path, documents: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    with ff.TokenWriter(place, dtype="uint16") as writer:
        for _ in range(documents):
            writer.write(draw.integers(0, 50_000, int(draw.integers(20, 500))).astype(np.uint16))


def main() -> None:
    folder = Path(sys.argv[1])
    for seed, name in enumerate(NAMES):
        write(folder / name, 200, seed)
    corpora = [ff.open(folder / name).windows(CONTEXT + 1, stride=CONTEXT) for name in NAMES]
    mixture = ff.Mixture(corpora, schedule=[(0, [9, 1]), (CHANGE, [1, 1])], stop=SAMPLES)
    print(mixture)
    counts = np.zeros((2, len(NAMES)), int)
    with ff.Loader(mixture, batch_size=100, seed=0) as loader:
        for batch in loader:
            late = batch.positions >= CHANGE
            for half, part in enumerate((batch.source[~late], batch.source[late])):
                counts[half] += np.bincount(part, minlength=len(NAMES))
    for name, before, after in zip(NAMES, *counts.tolist(), strict=True):
        print(f"{name}: {before} samples before position {CHANGE}, {after} from there on")


if __name__ == "__main__":
    main()
