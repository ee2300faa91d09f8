"""Samples and record batches into frames.

A `SampleEncoder` checks a batch against its schema, compresses what the schema compresses, and has the core
lay the frames out. It holds compression state: one a thread. What it returns does not depend on the batches
before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastfeed._native.frames import EncodedColumn, FrameLayout, ZstdEncoder
from fastfeed.errors import ConfigError
from fastfeed.format import from_arrow, from_python
from fastfeed.format.columns import LaneValues, PlainColumn, encode_column
from fastfeed.format.schema import Codec, Schema
from fastfeed.format.specs import column_specs

# zstd's own default.
ZSTD_LEVEL = 3


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Frames of consecutive rows, with crc fields of zero: which row of which shard they become is not yet
    known.
    """

    rows: int
    frames: npt.NDArray[np.uint8]
    sizes: npt.NDArray[np.uint64]  # [rows], bytes of each frame
    body_crcs: npt.NDArray[np.uint32]  # [rows], crc32c of each frame from byte 4 on
    lanes: list[LaneValues]  # in the order of Schema.lanes, each [rows]

    @property
    def bytes(self) -> int:
        return self.frames.nbytes

    def part(self, start: int, stop: int, first_byte: int, end_byte: int) -> EncodedRows:
        """Rows [start, stop), whose frames are bytes [first_byte, end_byte) of ours. Views, no copies."""
        if start == 0 and stop == self.rows:
            return self
        lanes = [
            LaneValues(lane.values[start:stop], None if lane.nulls is None else lane.nulls[start:stop])
            for lane in self.lanes
        ]
        return EncodedRows(
            stop - start, self.frames[first_byte:end_byte], self.sizes[start:stop], self.body_crcs[start:stop], lanes
        )


class SampleEncoder:
    """Encodes batches under one schema. Not thread-safe.

    `dictionaries` gives, per zstd column, the dictionary to compress with; columns without one use none.
    """

    def __init__(
        self, schema: Schema, dictionaries: Mapping[str, bytes] | None = None, zstd_level: int = ZSTD_LEVEL
    ) -> None:
        self.schema = schema
        self._columns = dict(schema)  # the keys of a dict compare with a sample's at native speed
        self._layout = FrameLayout(column_specs(schema))
        given = used_dictionaries(schema, dictionaries or {})
        self._zstd = {
            name: ZstdEncoder(zstd_level, given.get(name, b""))
            for name, column in schema.items()
            if column.storage is Codec.ZSTD
        }

    def encode_samples(self, samples: Sequence[Mapping[str, Any]]) -> EncodedRows:
        """Encode mappings from column names to values. A nullable column may be left out.

        ConfigError names column, row and the value's type where a sample does not fit.
        """
        for row, sample in enumerate(samples):
            if sample.keys() != self._columns.keys():
                self._check_names(f"row {row} of the batch", list(sample))
        return self._encode(
            len(samples),
            {
                name: from_python.plain_column(name, column, [sample.get(name) for sample in samples])
                for name, column in self._columns.items()
            },
        )

    def encode_batch(self, batch: pa.RecordBatch) -> EncodedRows:
        """Encode a record batch whose columns match by name (see from_arrow.py for the types that fit)."""
        self._check_names("the record batch", batch.schema.names)
        present = set(batch.schema.names)
        plain: dict[str, PlainColumn] = {}
        for name, column in self._columns.items():
            array = batch.column(name) if name in present else pa.nulls(batch.num_rows, column.arrow_type)
            plain[name] = from_arrow.plain_column(name, column, array)
        return self._encode(batch.num_rows, plain)

    def _encode(self, rows: int, plain: Mapping[str, PlainColumn]) -> EncodedRows:
        columns: list[EncodedColumn] = []
        lanes: list[LaneValues] = []
        for name, column in self._columns.items():
            encoded, column_lanes = encode_column(name, column, plain[name], self._zstd.get(name))
            columns.append(encoded)
            lanes += column_lanes
        frames, sizes, body_crcs = self._layout.encode(rows, columns)
        return EncodedRows(rows, frames, sizes, body_crcs, lanes)

    def _check_names(self, where: str, names: Sequence[str]) -> None:
        given = set(names)
        if len(given) != len(names):
            raise ConfigError(f"{where} has two columns of one name: {sorted(names)}")
        unknown = sorted(given - self._columns.keys())
        missing = [name for name, column in self._columns.items() if name not in given and not column.nullable]
        if unknown or missing:
            parts = [f"has unknown columns {unknown}"] if unknown else []
            parts += [f"lacks columns {missing}"] if missing else []
            raise ConfigError(f"{where} {' and '.join(parts)}. The schema has {self.schema.names}.")


def used_dictionaries(schema: Schema, dictionaries: Mapping[str, bytes]) -> dict[str, bytes]:
    """The dictionaries that are not empty. ConfigError where one is for a column that cannot use it."""
    for name in dictionaries:
        if name not in schema or schema[name].storage is not Codec.ZSTD:
            raise ConfigError(f"a dictionary for column {name!r}, which is no zstd column of {schema!r}")
    return {name: dictionary for name, dictionary in dictionaries.items() if dictionary}
