"""Emulated accelerators that others feed: records of bytes, as MLPerf Storage's workloads have them, by their loaders.

    accelerators.py write CONTENDER FILES FOLDER      make the contender's dataset of a folder of files, a record each
    accelerators.py check FILES JSON                  read as many records as there are, and compare each with the files
    accelerators.py feed JSON                         be one accelerator of a team (fastfeed/bench/accelerator.py)

Runs in each contender's environment. A batch is one tensor of the bytes of all records and one of their places, made
in a worker where the trainer sees it without a copy. Of the contenders with a sampler each accelerator reads its
share of a permutation; the others (LitData, WebDataset, Mosaic) read all of it in orders of their own, which asks the
same of the machine.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastfeed.bench.accelerator import Barrier, work

os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
torch.set_num_threads(1)

SHARD_BYTES = 64 << 20
TARS_MIN = 8
# WebDataset and its kind: samples in the buffer, but not more than this many bytes a worker.
BUFFER_SAMPLES = 1000
BUFFER_BYTES = 256 << 20


class Endless(torch.utils.data.Sampler[int]):
    """Permutations of all numbers, one after the other, of which this rank takes every `world_size`th."""

    def __init__(self, count: int, rank: int, world_size: int) -> None:
        self.count, self.rank, self.world_size = count, rank, world_size

    def __iter__(self) -> Iterator[int]:
        rng, place = np.random.default_rng(7), 0
        while True:
            for number in rng.permutation(self.count).tolist():
                if place % self.world_size == self.rank:
                    yield number
                place += 1


class Files(torch.utils.data.Dataset[Any]):
    """A file a record."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(str(file) for file in folder.iterdir())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> Any:
        return np.fromfile(self.files[number], np.uint8)


def together(records: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch: the bytes of all records, and where each begins and ends."""
    arrays = [np.frombuffer(record, np.uint8) for record in records]
    ends = np.cumsum([0, *map(len, arrays)])
    if torch.utils.data.get_worker_info() is None:
        values = torch.empty(int(ends[-1]), dtype=torch.uint8)
    else:
        storage = torch.UntypedStorage._new_shared(int(ends[-1]), device="cpu")
        values = torch.empty(0, dtype=torch.uint8).set_(storage, 0, (int(ends[-1]),))
    np.concatenate(arrays, out=values.numpy())
    return values, torch.from_numpy(ends)


def together_of_rows(rows: Sequence[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    return together([row["record"] for row in rows])


# --- making datasets -----------------------------------------------------------------------------------------


def write(contender: str, files: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    {"hf": write_hf, "litdata": write_litdata, "webdataset": write_tars, "mosaic": write_mosaic}[contender](
        sorted(files.iterdir()), folder)


def rows_of(files: list[Path]) -> Iterator[dict[str, bytes]]:
    return ({"record": file.read_bytes()} for file in files)


def write_hf(files: list[Path], folder: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = datasets.Dataset.from_generator(
            rows_of, gen_kwargs={"files": files}, cache_dir=scratch, writer_batch_size=16,
            features=datasets.Features({"record": datasets.Value("large_binary")}))
        made.save_to_disk(str(folder))


def write_litdata(files: list[Path], folder: Path) -> None:
    from litdata.streaming import Cache

    cache = Cache(str(folder), chunk_bytes=SHARD_BYTES)
    for number, row in enumerate(rows_of(files)):
        cache[number] = row
    cache.done()
    cache.merge()


def write_tars(files: list[Path], folder: Path) -> None:
    import webdataset

    folder.mkdir(parents=True)
    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxcount=-(-len(files) // TARS_MIN), maxsize=SHARD_BYTES,
                                verbose=0) as tars:
        for number, row in enumerate(rows_of(files)):
            tars.write({"__key__": f"{number:08d}", "bin": row["record"]})


def write_mosaic(files: list[Path], folder: Path) -> None:
    from remote.torchvision_stand_in import stand_in_for_torchvision

    stand_in_for_torchvision()
    from streaming import MDSWriter

    with MDSWriter(out=str(folder), columns={"record": "bytes"}, size_limit=SHARD_BYTES) as writer:
        for row in rows_of(files):
            writer.write(row)


# --- reading them --------------------------------------------------------------------------------------------


def batches(told: dict[str, Any]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Without an end."""
    loader = LOADERS[told["contender"]](told)
    while True:
        yield from loader


def files_loader(told: dict[str, Any]) -> Any:
    return with_sampler(Files(Path(told["folder"])), told, together)


def hf_loader(told: dict[str, Any]) -> Any:
    import datasets

    return with_sampler(datasets.load_from_disk(told["folder"]), told, together_of_rows)


def with_sampler(dataset: Any, told: dict[str, Any], collate: Any) -> Any:
    sampler = Endless(len(dataset), told["rank"], told["world_size"])
    return torch.utils.data.DataLoader(dataset, told["batch_size"], sampler=sampler, num_workers=told["workers"],
                                       collate_fn=collate, drop_last=True)


def litdata_loader(told: dict[str, Any]) -> Any:
    import litdata

    class Records(litdata.StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, number: Any) -> Any:
            return super().__getitem__(number)["record"]

    records = Records(told["folder"], shuffle=True, drop_last=False, seed=7 + told["rank"])
    return litdata.StreamingDataLoader(records, batch_size=told["batch_size"], num_workers=told["workers"],
                                       collate_fn=together, drop_last=True, persistent_workers=True)


def tars_loader(told: dict[str, Any]) -> Any:
    import webdataset

    files = sorted(map(str, Path(told["folder"]).glob("*.tar")))
    size = max(1, min(BUFFER_SAMPLES, BUFFER_BYTES // told["record_bytes"]))
    samples = webdataset.WebDataset(files, shardshuffle=len(files), empty_check=False, seed=7 + told["rank"])
    taken = samples.shuffle(size).map(record_of).batched(told["batch_size"], partial=False, collation_fn=together)
    return webdataset.WebLoader(taken, batch_size=None, num_workers=told["workers"], persistent_workers=True)


def record_of(members: dict[str, Any]) -> Any:
    return members["bin"]


def mosaic_loader(told: dict[str, Any]) -> Any:
    from remote.torchvision_stand_in import stand_in_for_torchvision

    stand_in_for_torchvision()
    from streaming import StreamingDataLoader, StreamingDataset

    # Two processes that are not ranks of one job may not read one folder: each gets a name of its own for it.
    name = Path(told["scratch"]) / f"mosaic-{os.getpid()}"
    name.symlink_to(told["folder"])
    records = StreamingDataset(local=str(name), shuffle=True, batch_size=told["batch_size"],
                               shuffle_seed=7 + told["rank"], num_canonical_nodes=1)
    return StreamingDataLoader(records, batch_size=told["batch_size"], num_workers=told["workers"],
                               collate_fn=together_of_rows, drop_last=True, persistent_workers=True)


LOADERS = {"files": files_loader, "hf": hf_loader, "litdata": litdata_loader, "webdataset": tars_loader,
           "mosaic": mosaic_loader}


def size_of(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[int, int]:
    """Samples and bytes, after a look at the first and the last byte."""
    values, ends = batch
    values[0].item(), values[-1].item()
    return len(ends) - 1, len(values)


def check(files: Path, told: dict[str, Any]) -> None:
    """Exits with a message where a record is none of the files'. Of whole batches: an epoch's rest is dropped."""
    known = {zlib.crc32(file.read_bytes()) for file in files.iterdir()}
    wanted = len(known) // told["batch_size"] * told["batch_size"]
    found = 0
    for values, ends in batches(told):
        for start, stop in itertools.pairwise(ends.tolist()):
            if zlib.crc32(values[start:stop].numpy()) not in known:
                sys.exit(f"{told['contender']}: a record of {stop - start} bytes is none of those that were written")
            found += 1
        if found >= wanted:
            return


def feed(told: dict[str, Any]) -> None:
    barrier = Barrier(told["descriptor"])
    barrier.report(work(batches(told), size_of, told["step_s"], barrier))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    elif sys.argv[1] == "check":
        check(Path(sys.argv[2]), json.loads(sys.argv[3]))
    else:
        feed(json.loads(sys.argv[2]))
