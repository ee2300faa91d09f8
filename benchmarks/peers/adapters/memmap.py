"""By hand: the raw files mapped, a permutation, and numpy.

Variants: "" feeds a DataLoader that fetches a batch at once; "by hand" has no loader at all, but a loop in the training
process; "buffers" as it, and small records come as two buffers instead of a list of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from peers.adapters.torch_state import StatefulResumable
from peers.workloads import Raw, Workload

torch.set_num_threads(1)


class Tokens(torch.utils.data.Dataset[Any]):
    def __init__(self, raw: Raw) -> None:
        self.windows = raw.windows()

    def __len__(self) -> int:
        return len(self.windows)

    def __getitems__(self, numbers: Sequence[int]) -> Any:
        return self.windows[numbers]


class Records(torch.utils.data.Dataset[Any]):
    def __init__(self, raw: Raw) -> None:
        self.pieces, self.offsets = raw.records()
        self.edges, self.view = self.offsets.tolist(), memoryview(self.pieces)

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __getitem__(self, number: int) -> bytes:
        return bytes(self.view[self.edges[number] : self.edges[number + 1]])

    def __getitems__(self, numbers: Sequence[int]) -> list[bytes]:
        view, edges = self.view, self.edges
        return [bytes(view[edges[number] : edges[number + 1]]) for number in numbers]

    def buffers(self, numbers: Any) -> tuple[bytes, Any]:
        """One copy a record, and the offsets by numpy."""
        sizes = self.offsets[numbers + 1] - self.offsets[numbers]
        view, edges = self.view, self.edges
        together = b"".join([view[edges[number] : edges[number + 1]] for number in numbers.tolist()])
        return together, np.concatenate([[0], np.cumsum(sizes)])


class ByHand:
    def __init__(self, work: Workload, dataset: Any, buffers: bool) -> None:
        self.work, self.dataset, self.buffers = work, dataset, buffers

    def __iter__(self) -> Iterator[Any]:
        order, size = np.random.permutation(len(self.dataset)), self.work.batch
        for start in range(0, len(order), size):
            numbers = order[start : start + size]
            if self.work.data == "tokens":
                yield to_tensor(self.dataset.__getitems__(numbers))
            elif self.buffers:
                yield self.dataset.buffers(numbers)
            else:
                yield self.dataset.__getitems__(numbers.tolist())


def to_tensor(windows: Any) -> torch.Tensor:
    return torch.from_numpy(windows.astype(np.int64))


def as_it_is(items: Any) -> Any:
    return items


def loader(work: Workload, folder: Path, workers: int, variant: str, kind: Any = torch.utils.data.DataLoader) -> Any:
    raw = Raw(folder.parent.parent)
    dataset = Tokens(raw) if work.data == "tokens" else Records(raw)
    if variant:
        return ByHand(work, dataset, variant == "buffers")
    collate = to_tensor if work.data == "tokens" else as_it_is
    return kind(dataset, work.batch, shuffle=True, num_workers=workers, collate_fn=collate,
                persistent_workers=kind is torch.utils.data.DataLoader)


def getter(folder: Path) -> Callable[[int], bytes]:
    return Records(Raw(folder.parent.parent)).__getitem__


def taker(folder: Path) -> Callable[[list[int]], list[bytes]]:
    return Records(Raw(folder.parent.parent)).__getitems__


class Resumable(StatefulResumable):
    def __init__(self, work: Workload, folder: Path, workers: int, variant: str) -> None:
        from torchdata.stateful_dataloader import StatefulDataLoader

        super().__init__(loader(work, folder, workers, "", StatefulDataLoader))
