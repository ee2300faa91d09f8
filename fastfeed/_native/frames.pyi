"""Frames out of columns, and single frames back (csrc/format/frame.hpp)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Buffer = Any

class ColumnSpec(NamedTuple):
    """csrc's Column. `kind` and `codec` are the numbers of csrc/format/frame.hpp."""

    name: str
    kind: int
    codec: int
    nullable: bool
    item_size: int
    step_size: int
    fixed_size: int

class EncodedColumn(NamedTuple):
    """One column of n samples as frames hold it. Arrays are C-contiguous and borrowed during calls."""

    fixed: npt.NDArray[np.uint8] | None  # [n * fixed_size], None where fixed_size is 0
    values: Buffer | None  # all variable parts, one after the other
    value_offsets: npt.NDArray[np.int64] | None  # [n + 1], ascending (need not start at 0)
    nulls: npt.NDArray[np.uint8] | None  # [n], 1 means null; None: no nulls

class FrameLayout:
    """Immutable; picklable (from its specs); may be shared by threads."""

    def __init__(self, specs: Sequence[ColumnSpec]) -> None:
        """ConfigError where a column contradicts itself or a limit."""
    specs: tuple[ColumnSpec, ...]
    head_size: int
    stride: int  # 0 where frames have different sizes
    def encode(
        self, rows: int, columns: Sequence[EncodedColumn]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
        """Return (frames, sizes, body_crcs): the frames of `rows` samples with crc fields of zero, uint8 [total];
        each frame's size in bytes, uint64 [rows]; crc32c of each frame from byte 4 on, uint32 [rows].
        Releases the GIL. ConfigError names the row over a limit."""

    def check(self, frame: Buffer, uid: bytes, row: int) -> None:
        """CorruptDataError unless `frame` is exactly one whole frame of row `row` of shard `uid`."""

    def check_many(
        self, data: Buffer, offsets: npt.NDArray[np.uint64], uid: bytes, first_row: int
    ) -> list[tuple[int, str]]:
        """Check frames [offsets[i], offsets[i+1]) of `data` (offsets uint64 [n+1], relative to `data`) as rows
        first_row + i. Return (i, what is wrong) of the bad ones, at most 100. Releases the GIL."""

def seal_crcs(
    uid: bytes, first_row: int, body_crcs: npt.NDArray[np.uint32], sizes: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint32]:
    """Final crc field of each frame, uint32 [n]. Releases the GIL."""

class ZstdEncoder:
    """Stored forms of values under one level and dictionary. Not thread-safe: one a thread."""

    def __init__(self, level: int = 3, dictionary: bytes = b"") -> None: ...
    def encode(
        self, values: Buffer, value_offsets: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Return (stored values uint8, their offsets int64 [n + 1]). A value that does not get shorter is stored raw.
        Releases the GIL."""

class ZstdDecoder:
    """Values from their stored forms. Not thread-safe: one a thread."""

    def __init__(self, dictionary: bytes = b"") -> None: ...
    def decode(self, stored: Buffer, raw_length: int) -> bytes:
        """The value of exactly `raw_length` bytes. CorruptDataError where `stored` gives another. Releases the GIL."""
