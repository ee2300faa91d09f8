"""MosaicML Streaming: MDS shards, its cache in `local`. Reads S3 only; nginx answers what boto3 asks, unsigned."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from common import BATCH, WORKERS, keep, run_epochs, samples
from torchvision_stand_in import stand_in_for_torchvision

SHARD_BYTES = 64 << 20


def write(folder: Path, count: int) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=str(folder), columns={"data": "bytes"}, size_limit=SHARD_BYTES) as writer:
        for _, data in samples(count):
            writer.write({"data": data})


def read(url: str, cache: Path, count: int, check: bool) -> None:
    from streaming import StreamingDataLoader, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    dataset = StreamingDataset(remote=url, local=str(cache), shuffle=True, batch_size=BATCH, num_canonical_nodes=1)
    loader = StreamingDataLoader(dataset, batch_size=BATCH, num_workers=WORKERS, persistent_workers=True,
                                 collate_fn=keep)

    def epoch(_: int) -> Iterator[list[bytes]]:
        for batch in loader:
            yield [sample["data"] for sample in batch]

    run_epochs(epoch, count, check)


if __name__ == "__main__":
    stand_in_for_torchvision()
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        read(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "check")
