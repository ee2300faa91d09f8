"""Bitmap files: which rows of a snapshot's shards are still there (docs/format.md, section 5.3).

A snapshot without deletions has none. The file is read whole when a snapshot is opened, so its hash is checked then;
what it says becomes a `Selection`, which costs a bit a row and finds rows in constant time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from fastfeed._native.selection import Selection
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.arrow_tail import TAIL_BYTES, open_sealed, seal
from fastfeed.format.layout import Digest

Bits = npt.NDArray[np.uint8]  # bit r % 8 of byte r // 8 is row r


@dataclass(frozen=True, slots=True)
class PresentFile:
    """How a manifest names a bitmap file: `name` in its folder, its size, its bitmap's hash, the rows set in it."""

    name: str
    bytes: int
    xxh3_128: Digest
    rows: int


def bitmap_bytes(rows: int) -> int:
    """Bytes of a bitmap over `rows` rows."""
    return -(-rows // 8)


def pack_present(selection: Selection) -> tuple[PresentFile, bytes]:
    """The file of a selection, and how a manifest names it."""
    bits = selection.bits()
    digest = xxhash.xxh3_128_digest(bits)
    return PresentFile(f"{digest.hex()}.bits", len(bits) + TAIL_BYTES, digest, len(selection)), seal(bits)


def read_present(data: memoryview, file: PresentFile, rows: int, name: str) -> Selection:
    """Check all of a bitmap file over `rows` rows. CorruptDataError where it is not the one that the manifest names."""
    bits = open_sealed(data, name)
    digest = xxhash.xxh3_128_digest(memoryview(bits))
    if len(data) != file.bytes or digest != file.xxh3_128:
        raise CorruptDataError(
            f"{name}: has {len(data)} bytes and the hash {digest.hex()}, the manifest wants {file.bytes} bytes and "
            f"{file.xxh3_128.hex()}"
        )
    try:
        selection = Selection.from_bits(bits, rows)
    except ConfigError as error:
        raise CorruptDataError(f"{name}: is no bitmap of {rows} rows: {error}") from error
    if len(selection) != file.rows:
        raise CorruptDataError(f"{name}: has {len(selection)} rows, the manifest says {file.rows}")
    return selection


def join_bits(parts: Sequence[tuple[Bits, int]]) -> Bits:
    """The bitmap of several, one after the other; each part is its bits and how many of them count."""
    joined = np.zeros(bitmap_bytes(sum(rows for _, rows in parts)) + 1, np.uint8)
    at = 0
    for bits, rows in parts:
        first, shift = divmod(at, 8)
        shifted = bits.astype(np.uint16) << shift
        joined[first : first + len(bits)] |= (shifted & 0xFF).astype(np.uint8)
        joined[first + 1 : first + 1 + len(bits)] |= (shifted >> 8).astype(np.uint8)
        at += rows
    return joined[:-1]


def all_bits(rows: int) -> Bits:
    """The bitmap in which every row is there."""
    bits = np.full(bitmap_bytes(rows), 0xFF, np.uint8)
    if rows % 8:
        bits[-1] = (1 << rows % 8) - 1
    return bits


def slice_bits(bits: Bits, start: int, stop: int) -> Bits:
    """The bitmap of rows start..stop-1."""
    first, shift = divmod(start, 8)
    wide = np.zeros(bitmap_bytes(stop - start) + 1, np.uint16)
    window = bits[first : first + len(wide)]
    wide[: len(window)] = window
    out = ((wide[:-1] >> shift) | (wide[1:] << (8 - shift))).astype(np.uint8)
    if (stop - start) % 8:
        out[-1] &= (1 << (stop - start) % 8) - 1
    return out


def clear_rows(bits: Bits, rows: npt.NDArray[np.int64]) -> Bits:
    """A copy of `bits` in which `rows` are not there."""
    cleared = bits.copy()
    np.bitwise_and.at(cleared, rows >> 3, ~(np.uint8(1) << (rows & 7).astype(np.uint8)))
    return cleared
