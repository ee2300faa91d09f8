"""One column of a batch on its way into frames: plain values in, what the core encodes out, lanes beside it.

`PlainColumn` is what both ways in (Python samples, record batches) end in; `encode_column` is the one way on
from there, so that both give the same bytes. No Python object a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastfeed._native.frames import EncodedColumn, ZstdEncoder
from fastfeed._native.image import probe_many
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.schema import VALUE_BYTES_MAX, Codec, ColumnType, Kind

_IMAGE_FIXED = np.dtype(
    [("width", "<u4"), ("height", "<u4"), ("channels", "u1"), ("encoding", "u1"), ("reserved", "<u2")]
)


@dataclass(frozen=True, slots=True)
class PlainColumn:
    """n values of one column. Kinds without a variable part have `items`, the others `values` and
    `offsets`.
    """

    nulls: npt.NDArray[np.uint8] | None  # [n], 1 means null; None where there is no null
    items: npt.NDArray[np.generic] | None = None  # [n, ...] of the item type, C-contiguous, zero where null
    values: npt.NDArray[np.uint8] | None = None  # one after the other
    offsets: npt.NDArray[np.int64] | None = None  # [n + 1], in bytes, empty where null; need not start at 0


@dataclass(frozen=True, slots=True)
class LaneValues:
    """n values of one lane, zero where null."""

    values: npt.NDArray[np.generic]
    nulls: npt.NDArray[np.uint8] | None


def encode_column(
    name: str, column: ColumnType, plain: PlainColumn, zstd: ZstdEncoder | None
) -> tuple[EncodedColumn, list[LaneValues]]:
    """The column as frames hold it, and its lanes in order."""
    if plain.items is not None:
        fixed = plain.items.reshape(-1).view(np.uint8)
        lanes = [LaneValues(plain.items, plain.nulls)] if column.kind is Kind.SCALAR else []
        return EncodedColumn(fixed, None, None, plain.nulls), lanes
    assert plain.values is not None
    assert plain.offsets is not None
    lengths = _lengths(name, plain.offsets)
    size_lane = LaneValues(lengths, plain.nulls)
    if column.kind is Kind.IMAGE:
        return _encode_images(name, plain.values, plain.offsets, plain.nulls, size_lane)
    if column.storage is Codec.RAW:
        return EncodedColumn(None, plain.values, plain.offsets, plain.nulls), [size_lane]
    assert zstd is not None
    stored, stored_offsets = zstd.encode(plain.values, plain.offsets)
    return EncodedColumn(lengths.view(np.uint8), stored, stored_offsets, plain.nulls), [size_lane]


def _lengths(name: str, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    lengths = np.diff(offsets)
    if lengths.size and int(lengths.max()) > VALUE_BYTES_MAX:
        row = int(lengths.argmax())
        raise ConfigError(
            f"column {name!r}, row {row} of the batch: a value of {lengths[row]} bytes; at most {VALUE_BYTES_MAX}. "
            "Split it into several samples."
        )
    return lengths.astype("<u4")


def _encode_images(
    name: str,
    values: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    nulls: npt.NDArray[np.uint8] | None,
    size_lane: LaneValues,
) -> tuple[EncodedColumn, list[LaneValues]]:
    try:
        fixed = probe_many(values, offsets, nulls)
    except CorruptDataError as error:
        raise CorruptDataError(f"column {name!r}: {error}") from error
    parts = fixed.view(_IMAGE_FIXED)
    sides = [LaneValues(np.ascontiguousarray(parts[part]), nulls) for part in ("width", "height", "channels")]
    return EncodedColumn(fixed, values, offsets, nulls), [*sides, size_lane]
