"""Writes documents as a token stream, and reads windows of it: the input of a language model.

    python tokens.py SHARDS

A stream holds tokens and where documents begin. The length of a window is chosen when reading: each row of
`ds.windows(length, stride)` is one contiguous read, at any length.
"""

from __future__ import annotations

import sys

import numpy as np

import fastfeed as ff

CONTEXT = 128
DOCUMENTS = 200


def write(url: str) -> None:
    """Documents of different lengths; an end-of-text token (0) closes each."""
    draw = np.random.default_rng(0)
    with ff.TokenWriter(url, dtype="uint16") as writer:
        for _ in range(DOCUMENTS):
            length = int(draw.integers(20, 500))
            writer.write(np.append(draw.integers(1, 50_000, length), 0).astype(np.uint16))


def main() -> None:
    url = sys.argv[1]
    write(url)
    # One token more than the context: inputs are all but the last, targets all but the first.
    windows = ff.open(url).windows(CONTEXT + 1, stride=CONTEXT)
    with ff.Loader(windows, batch_size=8, seed=0) as loader:
        for batch in loader:
            tokens = batch["tokens"]
            inputs, targets = tokens[:, :-1], tokens[:, 1:]
    print(
        f"{len(windows)} windows, {len(loader)} batches: inputs {inputs.shape}, targets {targets.shape}, {tokens.dtype}"
    )


if __name__ == "__main__":
    main()
