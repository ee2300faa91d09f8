"""Lance: a table on the disk, a map-style dataset that takes a batch at once, opened in spawned workers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import torch

from peers.adapters.torch_state import StatefulResumable
from peers.items import SCALED, Collate, Finish
from peers.workloads import EMBEDDING, WINDOW, Raw, Workload

torch.set_num_threads(1)

IMAGE = [("number", pa.int64()), ("image", pa.binary())]
SCHEMAS = {
    "images": pa.schema(IMAGE),
    "photos2048": pa.schema(IMAGE),
    "tokens": pa.schema([("tokens", pa.list_(pa.uint16(), WINDOW))]),
    "small": pa.schema([("record", pa.binary())]),
    "mixed": pa.schema([*IMAGE, ("caption", pa.string()), ("embedding", pa.list_(pa.float16(), EMBEDDING)),
                        ("label", pa.int64())]),
}
ROWS_A_BATCH = {"small": 8192, "tokens": 4096}
ROWS_A_BATCH_ELSE = 250


def write(raw: Raw, data: str, folder: Path) -> None:
    schema = SCHEMAS[data]

    def batches() -> Iterator[pa.RecordBatch]:
        samples = raw.samples(data)
        while part := list(itertools.islice(samples, ROWS_A_BATCH.get(data, ROWS_A_BATCH_ELSE))):
            yield pa.record_batch([column([sample[field.name] for sample in part], field.type) for field in schema],
                                  schema=schema)

    folder.parent.mkdir(parents=True, exist_ok=True)
    lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches()), str(folder), schema=schema)


def column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(values), kind.value_type), kind.list_size)
    return pa.array(values, kind)


class Table(torch.utils.data.Dataset[Any]):
    def __init__(self, work: Workload, folder: Path, scaled: bool) -> None:
        self.work, self.folder, self.finish = work, folder, Finish(work, scaled)
        self.count = lance.dataset(str(folder)).count_rows()
        self.dataset: Any = None

    def __len__(self) -> int:
        return int(self.count)

    def __getitems__(self, numbers: Sequence[int]) -> Any:
        if self.dataset is None:
            self.dataset = lance.dataset(str(self.folder))
        return self.items(self.dataset.take(numbers))

    def items(self, table: pa.Table) -> Any:
        if self.work.data == "tokens":
            return flat(table.column("tokens")).reshape(-1, WINDOW)
        if self.work.data == "small":
            return table.column("record").to_pylist()
        columns = {name: table.column(name).to_pylist() for name in table.column_names if name != "embedding"}
        if self.work.data == "mixed":
            columns["embedding"] = list(flat(table.column("embedding")).reshape(-1, EMBEDDING))
        return [self.finish(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def flat(lists: pa.ChunkedArray) -> Any:
    return np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in lists.chunks])


def to_tensor(windows: Any) -> torch.Tensor:
    return torch.from_numpy(windows.astype(np.int64))


def loader(work: Workload, folder: Path, workers: int, variant: str, kind: Any = torch.utils.data.DataLoader) -> Any:
    options: dict[str, Any] = {"multiprocessing_context": "spawn"} if workers else {}
    if workers and kind is torch.utils.data.DataLoader:
        options["persistent_workers"] = True
    collate = to_tensor if work.data == "tokens" else Collate(work)
    return kind(Table(work, folder, variant == SCALED), work.batch, shuffle=True, num_workers=workers,
                collate_fn=collate, **options)


def getter(folder: Path) -> Callable[[int], bytes]:
    dataset = lance.dataset(str(folder))
    return lambda number: dataset.take([number]).column("record")[0].as_py()  # type: ignore[no-any-return]


def taker(folder: Path) -> Callable[[list[int]], list[bytes]]:
    dataset = lance.dataset(str(folder))
    return lambda numbers: dataset.take(numbers).column("record").to_pylist()  # type: ignore[no-any-return]


class Resumable(StatefulResumable):
    def __init__(self, work: Workload, folder: Path, workers: int, variant: str) -> None:
        from torchdata.stateful_dataloader import StatefulDataLoader

        super().__init__(loader(work, folder, workers, "", StatefulDataLoader))
