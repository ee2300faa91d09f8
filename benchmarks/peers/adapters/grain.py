"""Grain over ArrayRecord with groups of one record, as its documentation asks for random access. No torch.

Variants: "" reads samples in threads; "batches" lets a thread work on a whole batch; "processes" has worker processes.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grain
import numpy as np
from absl import flags
from array_record.python.array_record_module import ArrayRecordWriter

from peers.items import SCALED, CollateArrays, Finish
from peers.workloads import Raw, Workload

if not flags.FLAGS.is_parsed():
    flags.FLAGS(["grain"])

SHARDS = 8
# Samples, and batches, that it has ready.
BUFFER_SAMPLES, BUFFER_BATCHES = 512, 8


def write(raw: Raw, data: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    count = raw.count(data)
    a_shard, samples = -(-count // SHARDS), raw.samples(data)
    for number in range(-(-count // a_shard)):
        writer = ArrayRecordWriter(str(folder / f"{number:05}.array_record"), "group_size:1")
        for sample in itertools.islice(samples, a_shard):
            writer.write(packed(data, sample))
        writer.close()


def packed(data: str, sample: dict[str, Any]) -> bytes:
    if data == "tokens":
        return bytes(sample["tokens"].tobytes())
    return sample["record"] if data == "small" else pickle.dumps(sample)


class Unpack:
    def __init__(self, work: Workload, scaled: bool) -> None:
        self.work, self.finish = work, Finish(work, scaled)

    def __call__(self, record: bytes) -> Any:
        if self.work.data == "tokens":
            return np.frombuffer(record, np.uint16)
        return record if self.work.data == "small" else self.finish(pickle.loads(record))


def source(folder: Path) -> Any:
    return grain.sources.ArrayRecordDataSource(sorted(map(str, folder.glob("*.array_record"))))


def loader(work: Workload, folder: Path, workers: int, variant: str) -> Any:
    how, _, decoder = variant.partition(" ")
    samples = grain.MapDataset.source(source(folder)).shuffle(seed=7).map(Unpack(work, decoder == SCALED))
    collate = CollateArrays(work)
    if not how:
        options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=BUFFER_SAMPLES)
        return samples.to_iter_dataset(options).batch(work.batch, batch_fn=collate)
    batches = samples.batch(work.batch, batch_fn=collate)
    if how == "batches":
        return batches.to_iter_dataset(grain.ReadOptions(num_threads=workers, prefetch_buffer_size=BUFFER_BATCHES))
    one = grain.ReadOptions(num_threads=1, prefetch_buffer_size=BUFFER_BATCHES)
    return batches.to_iter_dataset(one).mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))


def getter(folder: Path) -> Callable[[int], bytes]:
    return source(folder).__getitem__  # type: ignore[no-any-return]


def taker(folder: Path) -> Callable[[list[int]], list[bytes]]:
    return source(folder).__getitems__  # type: ignore[no-any-return]


class Resumable:
    def __init__(self, work: Workload, folder: Path, workers: int, variant: str) -> None:
        self.iterator = iter(loader(work, folder, workers, "batches"))

    def __iter__(self) -> Iterator[Any]:
        return self.iterator

    def state(self) -> Any:
        return self.iterator.get_state()

    def resumed(self, state: Any) -> Iterator[Any]:
        self.iterator.set_state(state)
        return self.iterator
