"""Batches of tensors, made from numpy batches without copying.

A tensor made by `torch.from_numpy` keeps the array alive, and with it the reader's slot. uint16, uint32 and uint64
become torch types of the same names, for which torch has few operations: convert them (`.long()`), or ask for
`fastfeed.Cast("int64")` when reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from fastfeed.dataset.batch import Batch as NumpyBatch
from fastfeed.dataset.batch import Ragged as NumpyRagged


class Ragged:
    """n values of different sizes as two tensors: `values`, flat, and `offsets`, int64 [n + 1], in items.

    `ragged[i]` is a tensor (a view) for arrays and images, and str, bytes or a parsed JSON value for those kinds.
    shapes: int64 [n, dimensions], or None where a value has one dimension.
    """

    __slots__ = ("kind", "nulls", "offsets", "shapes", "values")

    def __init__(
        self,
        values: torch.Tensor,
        offsets: torch.Tensor,
        shapes: torch.Tensor | None = None,
        kind: str = "array",
        nulls: torch.Tensor | None = None,
    ) -> None:
        self.values, self.offsets, self.shapes, self.kind, self.nulls = values, offsets, shapes, kind, nulls

    @classmethod
    def from_numpy(cls, ragged: NumpyRagged) -> Ragged:
        """Share the memory of `ragged`."""
        shapes, nulls = ragged.shapes, ragged.nulls
        return cls(as_tensor(ragged.values), as_tensor(ragged.offsets), None if shapes is None else as_tensor(shapes),
                   ragged.kind, None if nulls is None else as_tensor(nulls))

    def numpy(self) -> NumpyRagged:
        """The same in numpy: shares memory on the CPU."""
        shapes, nulls = self.shapes, self.nulls
        return NumpyRagged(self.values.cpu().numpy(), self.offsets.cpu().numpy(),
                           None if shapes is None else shapes.cpu().numpy(), self.kind,
                           None if nulls is None else nulls.cpu().numpy())

    def to(self, device: Any, *, non_blocking: bool = False) -> Ragged:
        """A copy on `device`, or self where everything is there."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Ragged:
        """A copy in pinned memory."""
        return self._mapped(lambda tensor: tensor.pin_memory())

    def tolist(self) -> list[Any]:
        """The values as Python objects: arrays become nested lists."""
        return self.numpy().tolist()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Any:
        return as_value(self.numpy()[index])

    def __iter__(self) -> Iterator[Any]:
        return (as_value(value) for value in self.numpy())

    def __repr__(self) -> str:
        return f"Ragged({len(self)} values of kind {self.kind!r}, {self.values.numel()} items of {self.values.dtype})"

    def _mapped(self, change: Any) -> Ragged:
        return Ragged(change(self.values), change(self.offsets), None if self.shapes is None else change(self.shapes),
                      self.kind, None if self.nulls is None else change(self.nulls))


class Batch(dict[str, Any]):
    """A dict from column names to tensors or `Ragged`s, for n samples; `len(batch)` is n.

    rows, positions: int64 [n]; valid: bool [n], False for padding and for samples that could not be read; source: int64
    [n] in a mixture, else None; nulls: a dict of bool [n] for the nullable columns. They stay on the CPU. A Batch made
    from a plain dict has none of them.
    """

    rows: torch.Tensor | None
    positions: torch.Tensor | None
    valid: torch.Tensor | None
    source: torch.Tensor | None
    nulls: dict[str, torch.Tensor]

    def __init__(
        self,
        columns: Mapping[str, Any],
        rows: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        valid: torch.Tensor | None = None,
        source: torch.Tensor | None = None,
        nulls: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        super().__init__(columns)
        self.rows, self.positions, self.valid, self.source = rows, positions, valid, source
        self.nulls = dict(nulls or {})

    def __len__(self) -> int:
        if self.rows is not None:
            return len(self.rows)
        return len(next(iter(self.values()), ()))

    def __bool__(self) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return Batch, (dict(self.items()), self.rows, self.positions, self.valid, self.source, self.nulls)

    def to(self, device: Any, *, non_blocking: bool = False) -> Batch:
        """The columns on `device`."""
        return self._mapped(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The columns in pinned memory: what a DataLoader and `Loader(pin_memory=True)` call."""
        return self._mapped(lambda value: value.pin_memory())

    def _mapped(self, change: Any) -> Batch:
        columns = {name: change(value) if isinstance(value, torch.Tensor | Ragged) else value
                   for name, value in self.items()}
        return Batch(columns, self.rows, self.positions, self.valid, self.source, self.nulls)


def to_torch(batch: Any) -> Any:
    """Share the memory of a numpy batch, or of a mapping that `map_batch` returned; anything else stays as it is."""
    if isinstance(batch, NumpyBatch):
        nulls = {name: as_tensor(null) for name, null in batch.nulls.items() if null is not None}
        return Batch({name: as_value(column) for name, column in batch.items()}, as_tensor(batch.rows),
                     as_tensor(batch.positions), as_tensor(batch.valid),
                     None if batch.source is None else as_tensor(batch.source), nulls)
    if isinstance(batch, Mapping) and not isinstance(batch, Batch):
        return Batch({name: as_value(column) for name, column in batch.items()})
    return batch


def as_value(value: Any) -> Any:
    """Arrays as tensors, ragged columns as ragged columns of tensors; numpy scalars as tensors without dimensions."""
    if isinstance(value, np.ndarray):
        return as_tensor(value)
    if isinstance(value, np.generic):
        return as_tensor(np.asarray(value))
    return Ragged.from_numpy(value) if isinstance(value, NumpyRagged) else value


def as_tensor(array: Any) -> torch.Tensor:
    """A tensor over the array's memory. A read-only array is copied: torch cannot promise not to write."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())
