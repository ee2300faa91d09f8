"""What a writer holds back: samples until they are worth a call, batches until dictionaries are trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from fastfeed.format import dictionary, from_arrow, from_python
from fastfeed.format.columns import PlainColumn
from fastfeed.format.schema import Codec, Schema

# One call of the encoder costs about as much as ten small samples; beyond these limits more rows gain nothing.
BATCH_ROWS_MAX = 1024
BATCH_BYTES_MAX = 4 << 20
# Dictionaries are trained from what comes first, but a writer of large samples does not wait longer than this: above
# the largest budget of one column (dictionary.SAMPLES_BYTES_MAX), and what a writer may hold in memory.
PENDING_BYTES_MAX = 256 << 20

Rows: TypeAlias = Sequence[Mapping[str, Any]] | pa.RecordBatch

_IMMUTABLE = (str, bytes, int, float, type(None), np.generic)
# What a number counts for: about what it takes in a list.
_SMALL_VALUE_BYTES = 16


class SampleBuffer:
    """Samples on their way to one call of the encoder. Holds copies of what the caller may change afterwards."""

    def __init__(self) -> None:
        self._samples: list[dict[str, Any]] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def full(self) -> bool:
        return len(self._samples) >= BATCH_ROWS_MAX or self._bytes >= BATCH_BYTES_MAX

    def add(self, sample: Mapping[str, Any]) -> None:
        kept = {name: _kept(value) for name, value in sample.items()}
        self._samples.append(kept)
        self._bytes += sum(map(_size_bytes, kept.values()))

    def drain(self) -> list[dict[str, Any]]:
        samples, self._samples, self._bytes = self._samples, [], 0
        return samples


class TrainingSet:
    """The first rows of a writer, kept until its zstd columns have seen enough to train dictionaries.

    Training looks at the first `dictionary.sample_budget_bytes()` of a column, so the same rows give the same
    dictionaries however they were cut into batches (unless PENDING_BYTES_MAX comes first: then the cut decides).
    """

    def __init__(self, schema: Schema) -> None:
        self.rows: list[Rows] = []
        self._schema = schema
        self._values: dict[str, list[bytes]] = {
            name: [] for name, column in schema.items() if column.storage is Codec.ZSTD
        }
        self._missing_bytes = dict.fromkeys(self._values, dictionary.sample_budget_bytes())
        self._pending_bytes = 0

    @property
    def complete(self) -> bool:
        return self._pending_bytes >= PENDING_BYTES_MAX or all(left <= 0 for left in self._missing_bytes.values())

    def add(self, rows: Rows) -> None:
        self.rows.append(rows)
        for name, values in self._values.items():
            column = self._plain(name, rows)
            if column is not None and self._missing_bytes[name] > 0:
                taken = [*_values(column)]
                values += taken
                self._missing_bytes[name] -= sum(map(len, taken))
        self._pending_bytes += _rows_bytes(rows)

    def train(self, level: int, shard_bytes: int) -> dict[str, bytes]:
        """Column -> dictionary, for the columns that gain from one; sized for shards of `shard_bytes`."""
        size = dictionary.dictionary_bytes_for(shard_bytes)
        trained = {
            name: dictionary.train(values, dictionary_bytes=size, level=level) for name, values in self._values.items()
        }
        return {name: each for name, each in trained.items() if each}

    def _plain(self, name: str, rows: Rows) -> PlainColumn | None:
        """The column's values; None where a record batch leaves a nullable column out."""
        column = self._schema[name]
        if isinstance(rows, pa.RecordBatch):
            present = name in rows.schema.names
            return from_arrow.plain_column(name, column, rows.column(name)) if present else None
        return from_python.plain_column(name, column, [sample.get(name) for sample in rows])


def slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """`batch` in parts that are worth one call of the encoder each."""
    rows = max(1, min(BATCH_ROWS_MAX, BATCH_BYTES_MAX * batch.num_rows // max(batch.nbytes, 1)))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _kept(value: Any) -> Any:
    if isinstance(value, _IMMUTABLE):
        return value
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return copy.deepcopy(value)


def _size_bytes(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    return value.nbytes if isinstance(value, np.ndarray) else _SMALL_VALUE_BYTES


def _rows_bytes(rows: Rows) -> int:
    if isinstance(rows, pa.RecordBatch):
        return int(rows.nbytes)
    return sum(_size_bytes(value) for sample in rows for value in sample.values())


def _values(column: PlainColumn) -> Iterator[bytes]:
    if column.values is None or column.offsets is None:
        return
    data = column.values.tobytes()
    for start, stop in zip(column.offsets[:-1].tolist(), column.offsets[1:].tolist(), strict=True):
        yield data[start:stop]
