"""LitData: chunks of 64 MB, its cache in `cache_dir`, large enough for all. Reads S3; nginx answers, unsigned."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import BATCH, MEAN_BYTES, WORKERS, keep, run_epochs, run_program, samples

os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")


def write(folder: Path, count: int) -> None:
    from litdata.streaming import Cache

    cache = Cache(str(folder), chunk_bytes=64 << 20)
    for number, data in samples(count):
        cache[number] = {"data": data}
    cache.done()
    cache.merge()


def read(url: str, cache: Path, count: int, check: bool) -> None:
    import litdata
    from litdata.streaming import downloader

    # Its faster client refuses plain HTTP unless told; its options have no way to say so.
    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = "true"  # type: ignore[typeddict-unknown-key]
    options: Any = {"endpoint_url": os.environ["S3_ENDPOINT_URL"], "aws_access_key_id": "none",
                    "aws_secret_access_key": "none", "region_name": "us-east-1"}
    class Bytes(litdata.StreamingDataset):  # type: ignore[misc]
        """It hands out memoryviews, which its workers cannot send: the loader would wait for ever."""

        def __getitem__(self, index: Any) -> bytes:
            return bytes(super().__getitem__(index)["data"])

    # A chunk is decoded whole, once a visit: by default a chunk that two workers share is read again for each sample,
    # and an epoch takes three times as long.
    dataset = Bytes(url, cache_dir=str(cache), shuffle=True, drop_last=False, batch_decode=True,
                    max_cache_size=f"{4 * count * MEAN_BYTES}B", storage_options=options)
    loader = litdata.StreamingDataLoader(dataset, batch_size=BATCH, num_workers=WORKERS, collate_fn=keep,
                                         drop_last=False, persistent_workers=True)

    def epoch(_: int) -> Iterator[list[bytes]]:
        yield from loader

    run_epochs(epoch, count, check)


if __name__ == "__main__":
    run_program(write, read)
