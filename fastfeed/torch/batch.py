"""Batches of tensors, made from numpy batches without copying.

A tensor made by `torch.from_numpy` keeps the array alive, and with it the reader's slot. uint16, uint32 and uint64
become torch types of the same names, for which torch has few operations: convert them (`.long()`), or ask for
`fastfeed.Cast("int64")` when reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

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

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (Ragged, tuple(map(_packed, (self.values, self.offsets, self.shapes, self.kind, self.nulls))))

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
    [n] in a mixture, else None; nulls: a dict of bool [n] for the nullable columns. They move with the columns, so that
    a loss can be masked where it is computed. A Batch made from a plain dict has none of them.
    """

    rows: torch.Tensor | None
    positions: torch.Tensor | None
    valid: torch.Tensor | None
    source: torch.Tensor | None
    nulls: dict[str, torch.Tensor]
    _about: NumpyBatch | None = None

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

    @classmethod
    def over(cls, columns: Mapping[str, Any], about: NumpyBatch) -> Batch:
        """A batch of these columns, with rows, positions and valid of `about`: tensors over their memory, made when
        they are first asked for. Most training loops never do, and each would cost them a microsecond a step."""
        nulls = {name: as_tensor(null) for name, null in about.nulls.items() if null is not None}
        batch = cls.__new__(cls, columns)
        dict.__init__(batch, columns)
        batch.source, batch.nulls = None if about.source is None else as_tensor(about.source), nulls
        batch._about = about
        return batch

    def __getattr__(self, name: str) -> torch.Tensor:
        if name not in _LATE_NAMES or self.__dict__.get("_about") is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        tensor = as_tensor(getattr(self._about, name))
        setattr(self, name, tensor)
        return tensor

    def __len__(self) -> int:
        if self._about is not None:
            return len(self._about)
        if self.rows is not None:
            return len(self.rows)
        return len(next(iter(self.values()), ()))

    def __bool__(self) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        columns = {name: _packed(value) for name, value in self.items()}
        return _unpacked, (Batch, (columns, self.rows, self.positions, self.valid, self.source, self.nulls))

    def to(self, device: Any, *, non_blocking: bool = False) -> Batch:
        """The batch on `device`: columns, rows, positions, valid, source and nulls."""
        return self._mapped(lambda value: moved(value, device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The batch in pinned memory: what a DataLoader and `Loader(pin_memory=True)` call."""
        return self._mapped(lambda value: value.pin_memory() if isinstance(value, torch.Tensor | Ragged) else value)

    def _mapped(self, change: Callable[[Any], Any]) -> Batch:
        about = (self.rows, self.positions, self.valid, self.source)
        rows, positions, valid, source = (None if value is None else change(value) for value in about)
        nulls = {name: change(null) for name, null in self.nulls.items()}
        return Batch({name: change(value) for name, value in self.items()}, rows, positions, valid, source, nulls)


# What `over` makes late.
_LATE_NAMES = ("rows", "positions", "valid")


def to_torch(batch: Any) -> Any:
    """Share the memory of a numpy batch, or of a mapping that `map_batch` returned; anything else stays as it is."""
    if isinstance(batch, NumpyBatch):
        return Batch.over({name: _as_column(column) for name, column in batch.columns.items()}, batch)
    if isinstance(batch, Mapping) and not isinstance(batch, Batch):
        return Batch({name: as_value(column) for name, column in batch.items()})
    return batch


def moved(value: Any, device: Any, *, non_blocking: bool = False) -> Any:
    """`value` with its tensors on `device`, also those inside of lists, tuples and mappings."""
    if isinstance(value, torch.Tensor | Ragged | Batch):
        return value.to(device, non_blocking=non_blocking)
    if isinstance(value, Mapping):
        return {name: moved(item, device, non_blocking=non_blocking) for name, item in value.items()}
    if isinstance(value, list | tuple):
        items = [moved(item, device, non_blocking=non_blocking) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _as_column(column: Any) -> Any:
    """As `as_value`; tensors of one shape that a callable returned for the samples become one tensor, with zeros for
    holes (None)."""
    if not isinstance(column, list):
        return as_value(column)
    present = [value for value in column if value is not None]
    if not present or not all(isinstance(value, torch.Tensor) for value in present):
        return column
    if len({(value.shape, value.dtype, value.device) for value in present}) > 1:
        return column
    return torch.stack([torch.zeros_like(present[0]) if value is None else value for value in column])


class _Packed(NamedTuple):
    """A tensor as an array, for pickle: torch 2.13 writes unsigned types that it then cannot read."""

    array: Any


_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def _packed(value: Any) -> Any:
    is_unsigned = isinstance(value, torch.Tensor) and value.dtype in _UNSIGNED and value.device.type == "cpu"
    return _Packed(value.numpy()) if is_unsigned else value


def _unpacked(kind: type[Any], arguments: tuple[Any, ...]) -> Any:
    """The Batch or Ragged that pickled as `arguments`."""
    return kind(*({name: _unpacked_value(item) for name, item in value.items()} if isinstance(value, dict)
                  else _unpacked_value(value) for value in arguments))


def _unpacked_value(value: Any) -> Any:
    return as_tensor(value.array) if isinstance(value, _Packed) else value


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
