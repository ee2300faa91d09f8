"""WebDataset: tar shards, its cache in `cache_dir`, shards shuffled and a buffer of 1,000 samples. Reads by curl."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from common import BATCH, MEAN_BYTES, WORKERS, keep, run_epochs, run_program, samples

SHARD_BYTES = 64 << 20


def write(folder: Path, count: int) -> None:
    import webdataset

    folder.mkdir(parents=True)
    a_shard = min(SHARD_BYTES // MEAN_BYTES, -(-count // (2 * WORKERS)))  # each worker has shards
    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxcount=a_shard, maxsize=1 << 40, verbose=0) as tars:
        for number, data in samples(count):
            tars.write({"__key__": f"{number:08d}", "bin": data})
    (folder / "shards.txt").write_text("\n".join(sorted(path.name for path in folder.glob("*.tar"))))


def read(url: str, cache: Path, count: int, check: bool) -> None:
    import webdataset

    cache.mkdir(parents=True)
    os.environ["WDS_VERBOSE_CACHE"] = "0"
    with urllib.request.urlopen(f"{url}/shards.txt") as answer:
        urls = [f"{url}/{name}" for name in answer.read().decode().split()]
    dataset = webdataset.WebDataset(urls, shardshuffle=len(urls), cache_dir=str(cache), empty_check=False)
    batches = dataset.shuffle(1000).to_tuple("bin").batched(BATCH, collation_fn=keep)
    loader = webdataset.WebLoader(batches, batch_size=None, num_workers=WORKERS, persistent_workers=True)

    def epoch(_: int) -> Iterator[list[bytes]]:
        for batch in loader:
            yield [sample[0] for sample in batch]

    run_epochs(epoch, count, check)


if __name__ == "__main__":
    run_program(write, read)
