"""HF datasets, streaming: Parquet over HTTP, a buffer of 1,000 samples. Nothing is kept for a second epoch."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

from common import BATCH, MEAN_BYTES, WORKERS, keep, run_epochs, run_program, samples

FILE_BYTES = 64 << 20
GROUP_ROWS = 100


def write(folder: Path, count: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    a_file = min(FILE_BYTES // MEAN_BYTES, -(-count // (2 * WORKERS)))
    schema = pa.schema([("data", pa.binary())])
    rows: list[bytes] = []
    names: list[str] = []

    def flush() -> None:
        names.append(f"{len(names):05d}.parquet")
        pq.write_table(pa.table({"data": rows}, schema), folder / names[-1], row_group_size=GROUP_ROWS,
                       compression="none", use_dictionary=False)
        rows.clear()

    for _, data in samples(count):
        rows.append(data)
        if len(rows) == a_file:
            flush()
    if rows:
        flush()
    (folder / "files.txt").write_text("\n".join(names))


def read(url: str, cache: Path, count: int, check: bool) -> None:
    import datasets
    import torch

    datasets.disable_progress_bars()
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # else each epoch of a shuffled stream ends with 5 s of sleep
    with urllib.request.urlopen(f"{url}/files.txt") as answer:
        files = [f"{url}/{name}" for name in answer.read().decode().split()]
    dataset = datasets.load_dataset("parquet", data_files={"train": files}, split="train", streaming=True,
                                    cache_dir=str(cache)).shuffle(seed=7, buffer_size=1000)
    loader = torch.utils.data.DataLoader(dataset, BATCH, num_workers=WORKERS, collate_fn=keep, persistent_workers=True)

    def epoch(number: int) -> Iterator[list[bytes]]:
        dataset.set_epoch(number)
        for batch in loader:
            yield [sample["data"] for sample in batch]

    run_epochs(epoch, count, check)


if __name__ == "__main__":
    run_program(write, read)
