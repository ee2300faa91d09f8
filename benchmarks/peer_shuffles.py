"""The shuffles that other loaders publish, simulated: which row they would deliver when.

Written from their documentation, in one process, with the options that they have by default or recommend; only rows are
moved, no data. Each function returns the rows of one epoch in the order of delivery, over one rank. Batches are made by
`WORKERS` worker processes in turn where a loader's batches come from one worker each.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Rows: TypeAlias = npt.NDArray[np.int64]

WORKERS = 8
# Streaming: shuffle_block_size by default on one canonical node.
PY1E_BLOCK_SAMPLES = 4_000_000
# WebDataset and Hugging Face: size of the buffer in most examples; WebDataset yields from so many on.
BUFFER_SAMPLES = 1000
WEBDATASET_INITIAL = 100


def shards_of(row_count: int, shard_rows: int) -> list[Rows]:
    """The rows of each shard, in storage order."""
    return [np.arange(start, min(start + shard_rows, row_count)) for start in range(0, row_count, shard_rows)]


def by_workers(shards: list[Rows], batch_size: int, stream: Callable[[list[Rows]], Iterable[int]]) -> Rows:
    """Shards dealt to workers one by one; each makes batches of its own stream, and they deliver in turn."""
    streams = [iter(stream(shards[worker::WORKERS])) for worker in range(min(WORKERS, len(shards)))]
    delivered: list[int] = []
    while streams:
        for one in list(streams):
            batch = list(itertools.islice(one, batch_size))
            delivered.extend(batch)
            if len(batch) < batch_size:
                streams.remove(one)
    return np.array(delivered, np.int64)


def webdataset(row_count: int, shard_rows: int, batch_size: int, seed: int) -> Rows:
    """Shards are shuffled; each worker shuffles its samples through a buffer that fills up while it is used."""
    random = np.random.default_rng(seed)

    def stream(shards: list[Rows]) -> Iterator[int]:
        source = (int(row) for shard in shards for row in shard)
        buffer: list[int] = []

        def take() -> int:
            at = int(random.integers(len(buffer)))
            buffer[at], buffer[-1] = buffer[-1], buffer[at]
            return buffer.pop()

        for row in source:
            buffer.append(row)
            if len(buffer) < BUFFER_SAMPLES:
                buffer.extend(itertools.islice(source, 1))
            if len(buffer) >= WEBDATASET_INITIAL:
                yield take()
        while buffer:
            yield take()

    return by_workers(_shuffled(shards_of(row_count, shard_rows), random), batch_size, stream)


def huggingface_iterable(row_count: int, shard_rows: int, batch_size: int, seed: int) -> Rows:
    """Shards are shuffled; each worker fills a buffer, then each new sample takes the place of one that is yielded."""
    random = np.random.default_rng(seed)

    def stream(shards: list[Rows]) -> Iterator[int]:
        buffer: list[int] = []
        for shard in shards:
            for row in shard:
                if len(buffer) < BUFFER_SAMPLES:
                    buffer.append(int(row))
                    continue
                at = int(random.integers(BUFFER_SAMPLES))
                yield buffer[at]
                buffer[at] = int(row)
        yield from random.permutation(np.array(buffer, np.int64)).tolist()

    return by_workers(_shuffled(shards_of(row_count, shard_rows), random), batch_size, stream)


def streaming_py1e(row_count: int, shard_rows: int, batch_size: int, seed: int) -> Rows:
    """Shards are shuffled, samples inside of each too; then each sample moves by a random distance, at most so far that
    a shard's samples stay within a block of about PY1E_BLOCK_SAMPLES, and within the epoch."""
    random = np.random.default_rng(seed)
    shards = [random.permutation(shard) for shard in _shuffled(shards_of(row_count, shard_rows), random)]
    places, start = [], 0
    for shard in shards:
        block = random.integers(PY1E_BLOCK_SAMPLES * 3 // 4, PY1E_BLOCK_SAMPLES * 5 // 4)
        reach = max(0.0, (block - len(shard)) / 2)
        lowest, highest = max(-reach, -start), min(reach, row_count - start - len(shard))
        places.append(start + np.arange(len(shard)) + random.uniform(lowest, highest, len(shard)))
        start += len(shard)
    return np.concatenate(shards)[np.argsort(np.concatenate(places))]


def litdata(row_count: int, shard_rows: int, batch_size: int, seed: int) -> Rows:
    """Chunks are shuffled and dealt to workers; a worker goes through its chunks one by one, each in random order."""
    random = np.random.default_rng(seed)

    def stream(shards: list[Rows]) -> Iterator[int]:
        for shard in shards:
            yield from random.permutation(shard).tolist()

    return by_workers(_shuffled(shards_of(row_count, shard_rows), random), batch_size, stream)


def _shuffled(shards: list[Rows], random: np.random.Generator) -> list[Rows]:
    return [shards[at] for at in random.permutation(len(shards))]


PEERS: dict[str, Callable[[int, int, int, int], Rows]] = {
    "WebDataset, buffer 1,000": webdataset,
    "HF iterable, buffer 1,000": huggingface_iterable,
    "LitData": litdata,
    "Streaming py1e": streaming_py1e,
}
