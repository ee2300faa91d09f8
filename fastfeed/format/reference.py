"""The reference reader: docs/format.md in plain Python, slow and obvious, with every check that the page names.

The oracle that fast paths are tested against. No native code takes part in what it says: crc32c, frames and values
are read here byte by byte. It holds the whole shard in memory and is not meant for training.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash
import zstandard

from fastfeed.errors import CorruptDataError, DatasetNotFoundError, FormatVersionError
from fastfeed.format import arrow_tail, layout
from fastfeed.format.layout import CHUNK_BYTES, HEADER_BYTES, PAGE_BYTES, LayoutKind
from fastfeed.format.schema import VALUE_BYTES_MAX, AnySchema, Codec, ColumnType, Kind, Schema, StreamSchema
from fastfeed.format.structure import ShardStructure, open_structure

# Limits of the format (docs/format.md, section 7).
IMAGE_SIDE_MAX = 65535
IMAGE_PIXELS_MAX = 2**28
Sample = dict[str, Any]


@lru_cache(maxsize=1)
def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


def crc32c(data: bytes | memoryview, value: int = 0) -> int:
    """crc32c of what `value` was the crc32c of, followed by `data`."""
    table = _crc_table()
    crc = value ^ 0xFFFFFFFF
    for byte in bytes(data):
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of a frame, as stored."""

    null: bool
    fixed: bytes
    variable: bytes


class ReferenceShard:
    """One shard. Opening it checks all of it but the frames; sample(i) checks frame i; check() checks everything."""

    def __init__(self, shard: bytes | bytearray | str | Path) -> None:
        in_memory = isinstance(shard, bytes | bytearray)
        self.data = bytes(shard) if isinstance(shard, bytes | bytearray) else Path(shard).read_bytes()
        self.name = "shard in memory" if in_memory else str(shard)
        self.structure: ShardStructure = open_structure(self._range, len(self.data), crc32c, self.name)
        self._check_blocks(self.structure.chunk_checksums, 0, CHUNK_BYTES, seeded=False)
        self._check_blocks(self.structure.page_checksums, HEADER_BYTES, PAGE_BYTES, seeded=True)

    def __len__(self) -> int:
        """Rows: samples, or documents of a stream."""
        return self.structure.rows

    @property
    def schema(self) -> AnySchema:
        """The columns, or the stream's token type."""
        return self.structure.schema

    @property
    def uid(self) -> bytes:
        """The hash of the content, 16 bytes: the name of the file."""
        return self.structure.uid

    @property
    def lanes(self) -> pa.RecordBatch | None:
        """The lanes, one row a sample; None where no column has one."""
        return self.structure.lanes

    def frame(self, row: int) -> bytes:
        """The stored bytes of one row, unchecked."""
        starts = self.structure.frame_starts
        return self.data[int(starts[row]) : int(starts[row + 1])]

    def sample(self, row: int) -> Sample:
        """The values of one row; None for nulls."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        if isinstance(self.schema, StreamSchema):
            return {"tokens": self.document(row)}
        cells = self._cells(row)
        return {name: self._value(row, name, column, cells[name]) for name, column in self.schema.items()}

    def samples(self) -> Iterator[Sample]:
        """All samples, in row order; each is checked when it is made."""
        return (self.sample(row) for row in range(len(self)))

    def tokens(self) -> npt.NDArray[Any]:
        """All tokens of a stream."""
        shape = self.structure.shape
        stored = self.data[HEADER_BYTES : HEADER_BYTES + shape.tokens * shape.token_bytes]
        if self.data[HEADER_BYTES + len(stored) : shape.payload_end].strip(b"\0"):
            self._fail("the padding after the last token is not zero")
        return np.frombuffer(stored, f"<u{shape.token_bytes}")

    def document(self, row: int) -> npt.NDArray[Any]:
        """The tokens of one document of a stream."""
        starts = [*self.structure.documents.tolist(), self.structure.shape.tokens]
        return self.tokens()[starts[row] : starts[row + 1]]

    def check(self) -> None:
        """Read everything: values, lanes, and that the uid is the hash of the content."""
        for _ in self.samples():
            pass
        self._check_lanes()
        self._check_uid()

    # --- frames ---

    def _cells(self, row: int) -> dict[str, Cell]:
        assert isinstance(self.schema, Schema)
        frame = self.frame(row)
        (stated_crc,) = struct.unpack_from("<I", frame)
        actual_crc = crc32c(frame[4:], crc32c(self.uid + struct.pack("<Q", row)))
        if stated_crc != actual_crc:
            self._fail(f"crc32c {actual_crc:08x}, the frame says {stated_crc:08x}", row)

        at = 4
        lengths: dict[str, int] = {}
        for name, column in self.schema.items():
            if column.has_variable_part:
                (lengths[name],) = struct.unpack_from("<I", frame, at)
                at += 4
        nullable = [name for name, column in self.schema.items() if column.nullable]
        null_bytes = frame[at : at + (len(nullable) + 7) // 8]
        at += len(null_bytes)
        bits = int.from_bytes(null_bytes, "little")
        nulls = {name: bool(bits >> i & 1) for i, name in enumerate(nullable)}
        if bits >> len(nullable):
            self._fail(f"null bits {bits:#x} beyond the {len(nullable)} nullable columns", row)

        fixed: dict[str, bytes] = {}
        for name, column in self.schema.items():
            fixed[name] = frame[at : at + column.fixed_bytes]
            at += column.fixed_bytes
        if layout.align(at + sum(lengths.values())) != len(frame):
            self._fail(f"a head of {at} bytes and values of {sum(lengths.values())} in a frame of {len(frame)}", row)
        variable: dict[str, bytes] = {}
        for name, length in lengths.items():
            variable[name] = frame[at : at + length]
            at += length
        if frame[at:].strip(b"\0"):
            self._fail("the padding at the end of the frame is not zero", row)

        cells = {name: Cell(nulls.get(name, False), fixed[name], variable.get(name, b"")) for name in self.schema.names}
        for name, cell in cells.items():
            if cell.null and (cell.variable or cell.fixed.strip(b"\0")):
                self._fail(f"column {name!r} is null and has bytes", row)
        return cells

    # --- values ---

    def _value(self, row: int, name: str, column: ColumnType, cell: Cell) -> Any:
        if cell.null:
            return None
        where = f"column {name!r}"
        if column.kind is Kind.SCALAR:
            return self._items(row, where, column, cell.fixed)[0].item()
        if column.kind is Kind.TENSOR:
            return self._items(row, where, column, cell.fixed).reshape(column.dims)
        if column.kind is Kind.IMAGE:
            self._check_image(row, where, cell.fixed)
            return cell.variable
        raw = self._raw(row, name, column, cell)
        if column.kind is Kind.ARRAY:
            return self._array(row, where, column, raw)
        if column.kind is Kind.BYTES:
            return raw
        try:
            text = raw.decode("utf-8")
            return text if column.kind is Kind.TEXT else json.loads(text, parse_constant=_no_constant)
        except ValueError as error:
            self._fail(f"{where} is no {column.kind.name.lower()}: {error}", row)

    def _items(self, row: int, where: str, column: ColumnType, data: bytes) -> npt.NDArray[Any]:
        if column.item_type == "bool" and data.strip(b"\0\1"):
            self._fail(f"{where} has a truth value that is neither 0 nor 1", row)
        return np.frombuffer(data, np.dtype(column.item_type).newbyteorder("<"))

    def _array(self, row: int, where: str, column: ColumnType, raw: bytes) -> npt.NDArray[Any]:
        step_bytes = column.item_bytes * column.step_items
        if len(raw) % step_bytes:
            self._fail(f"{where} has {len(raw)} bytes, no multiple of {step_bytes}", row)
        shape = [len(raw) // step_bytes if size is None else size for size in column.dims or ()]
        return self._items(row, where, column, raw).reshape(shape)

    def _check_image(self, row: int, where: str, fixed: bytes) -> None:
        width, height, channels, encoding, reserved = struct.unpack("<IIBBH", fixed)
        if not (1 <= width <= IMAGE_SIDE_MAX and 1 <= height <= IMAGE_SIDE_MAX and width * height <= IMAGE_PIXELS_MAX):
            self._fail(f"{where} is an image of {width} x {height}", row)
        if not 1 <= channels <= 4 or encoding not in (1, 2, 3) or reserved:
            self._fail(f"{where} has {channels} channels, encoding {encoding}, reserved {reserved}", row)

    def _raw(self, row: int, name: str, column: ColumnType, cell: Cell) -> bytes:
        """The value as it was before its codec."""
        if column.storage is Codec.RAW:
            return cell.variable
        (raw_bytes,) = struct.unpack("<I", cell.fixed)
        if raw_bytes > VALUE_BYTES_MAX or len(cell.variable) > raw_bytes:
            self._fail(f"column {name!r}: {len(cell.variable)} stored bytes for a value of {raw_bytes}", row)
        if len(cell.variable) == raw_bytes:
            return cell.variable
        try:
            raw = self._decompress(name, cell.variable, raw_bytes)
        except zstandard.ZstdError as error:
            self._fail(f"column {name!r}: {error}", row)
        if len(raw) != raw_bytes:
            self._fail(f"column {name!r}: decodes to {len(raw)} bytes, not {raw_bytes}", row)
        return raw

    def _decompress(self, name: str, stored: bytes, raw_bytes: int) -> bytes:
        frame = zstandard.get_frame_parameters(stored)
        if frame.content_size != zstandard.CONTENTSIZE_UNKNOWN or frame.has_checksum or frame.dict_id:
            raise zstandard.ZstdError("a zstd frame with a content size, a checksum or a dictionary id")
        dictionary = self.structure.dictionaries.get(name)
        dict_data = None if dictionary is None else zstandard.ZstdCompressionDict(dictionary)
        decompressor = zstandard.ZstdDecompressor(dict_data=dict_data)
        return decompressor.decompress(stored, max_output_size=raw_bytes, allow_extra_data=False)

    # --- what covers the whole shard ---

    def _check_blocks(self, checksums: npt.NDArray[np.uint32], start: int, block_bytes: int, *, seeded: bool) -> None:
        for number, stated in enumerate(checksums.tolist()):
            at = start + number * block_bytes
            block = self.data[at : min(at + block_bytes, self.structure.shape.payload_end)]
            seed = crc32c(self.uid + struct.pack("<Q", number)) if seeded else 0
            if crc32c(block, seed) != stated:
                self._fail(f"bytes {at}..{at + len(block) - 1} are not what their checksum says")

    def _check_lanes(self) -> None:
        lanes = self.structure.lanes
        if lanes is None:
            return
        assert isinstance(self.schema, Schema)
        stored = {name: lanes.column(name).to_pylist() for name in lanes.schema.names}
        for row in range(len(self)):
            cells = self._cells(row)
            for name, column in self.schema.items():
                for lane, expected in self._lane_values(row, name, column, cells[name]).items():
                    actual = stored[lane][row]
                    if actual != expected and not (actual != actual and expected != expected):  # nan is nan here
                        self._fail(f"lane {lane!r} says {actual!r}, the frame {expected!r}", row)

    def _lane_values(self, row: int, name: str, column: ColumnType, cell: Cell) -> dict[str, Any]:
        if cell.null:
            return {lane.name: None for lane in column.lanes(name)}
        if column.kind is Kind.SCALAR:
            return {name: self._value(row, name, column, cell)}
        if not column.has_variable_part:
            return {}
        if column.kind is not Kind.IMAGE:
            return {f"{name}.bytes": len(self._raw(row, name, column, cell))}
        width, height, channels = struct.unpack_from("<IIB", cell.fixed)
        sides = {f"{name}.width": width, f"{name}.height": height, f"{name}.channels": channels}
        return {**sides, f"{name}.bytes": len(cell.variable)}

    def _check_uid(self) -> None:
        header = self.structure.header
        hashed = xxhash.xxh3_128(
            layout.uid_prefix(header.schema_fingerprint, header.layout, self.structure.dictionaries_section)
        )
        if header.layout is LayoutKind.STREAM:
            hashed.update(self.tokens().tobytes())
            hashed.update(self.structure.documents.tobytes())
        else:
            for row in range(len(self)):
                hashed.update(b"\0\0\0\0" + self.frame(row)[4:])
        if hashed.digest() != self.uid:
            self._fail(f"the content has the uid {hashed.hexdigest()}, the header says {self.uid.hex()}")

    def _range(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def _fail(self, what: str, row: int | None = None) -> NoReturn:
        where = f"{self.name}, shard {self.uid.hex()}" + ("" if row is None else f", row {row}")
        raise CorruptDataError(f"{where}: {what}")


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


# --- datasets ---

DELETIONS = 1  # an incompatible flag of manifests


def read_dataset(folder: str | Path, snapshot: int | None = None) -> list[Sample]:
    """All samples (streams: documents) of a local dataset, in row order, everything checked (docs/format.md, 5)."""
    root = Path(folder)
    manifest = _read_manifest(root, snapshot)
    metadata = {key.decode(): value.decode() for key, value in manifest.schema.metadata.items()}
    flags = int(metadata["fastfeed.incompatible_flags"])
    if metadata["fastfeed.format"] != "1" or flags & ~DELETIONS:
        raise FormatVersionError(f"{root}: format {metadata['fastfeed.format']} with incompatible flags "
                                 f"{metadata['fastfeed.incompatible_flags']}. Upgrade.")  # fmt: skip
    indexes = [_read_index(root, *line.split(" ")) for line in metadata["fastfeed.index_files"].splitlines()]
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(metadata["fastfeed.schema"])))
    samples: list[Sample] = []
    tokens = 0
    for entry in manifest.to_pylist():
        shard = ReferenceShard(root / entry["path"])
        shard.check()
        _check_entry(shard, entry, indexes[entry["index_file"]])
        if shard.schema.to_arrow() != schema:
            raise CorruptDataError(f"{shard.name}: has another schema than the snapshot")
        samples += shard.samples()
        tokens += shard.structure.shape.tokens
    if len(samples) != int(metadata["fastfeed.rows"]) or tokens != int(metadata["fastfeed.tokens"]):
        raise CorruptDataError(
            f"{root}: {len(samples)} rows and {tokens} tokens; the manifest says {metadata['fastfeed.rows']} and "
            f"{metadata['fastfeed.tokens']}"
        )
    return _present(root, metadata["fastfeed.present"], samples) if flags & DELETIONS else samples


def _present(root: Path, line: str, samples: list[Sample]) -> list[Sample]:
    """The samples that were not deleted."""
    name, file_bytes, digest, rows = line.split(" ")
    path = root / "_feed" / "present" / name
    data = path.read_bytes()
    bits = bytes(arrow_tail.open_sealed(data, str(path)))
    number = int.from_bytes(bits, "little")
    if (
        len(data) != int(file_bytes)
        or xxhash.xxh3_128_hexdigest(bits) != digest
        or path.name != f"{digest}.bits"
        or len(bits) != (len(samples) + 7) // 8
        or number >> len(samples)
        or number.bit_count() != int(rows)
    ):
        raise CorruptDataError(f"{path}: is not the bitmap file that the manifest names")
    return [sample for row, sample in enumerate(samples) if bits[row // 8] >> row % 8 & 1]


def _read_manifest(root: Path, snapshot: int | None) -> pa.Table:
    paths = sorted((root / "_feed" / "manifests").glob("[0-9]" * 20 + ".arrow"))
    if snapshot is not None:
        paths = [path for path in paths if int(path.stem) == snapshot]
    if not paths:
        raise DatasetNotFoundError(f"{root}: no {'snapshot' if snapshot is None else f'snapshot {snapshot}'} here")
    table = _read_arrow(paths[-1])
    if int(table.schema.metadata[b"fastfeed.snapshot"]) != int(paths[-1].stem):
        raise CorruptDataError(f"{paths[-1]}: says that it is another snapshot")
    return table


def _read_arrow(path: Path) -> pa.Table:
    return pa.ipc.open_file(arrow_tail.open_sealed(path.read_bytes(), str(path))).read_all()


def _read_index(root: Path, name: str, file_bytes: str, digest: str) -> bytes:
    """The whole index file, since manifests point at bytes of it."""
    path = root / "_feed" / "index" / name
    data = path.read_bytes()
    arrow = memoryview(arrow_tail.open_sealed(data, str(path)))
    if len(data) != int(file_bytes) or xxhash.xxh3_128_hexdigest(arrow) != digest or path.stem != digest:
        raise CorruptDataError(f"{path}: is not the index file that the manifest names")
    return data


def _check_entry(shard: ReferenceShard, entry: dict[str, Any], index: bytes) -> None:
    """What the manifest and the index say of a shard is what the shard says."""
    structure = shard.structure
    said = {key: entry[key] for key in ("uid", "bytes", "rows", "payload_end", "tokens", "xxh3_128")}
    found = {
        "uid": shard.uid,
        "bytes": len(shard.data),
        "rows": structure.rows,
        "payload_end": structure.shape.payload_end,
        "tokens": structure.shape.tokens,
        "xxh3_128": xxhash.xxh3_128_digest(shard.data),
    }
    if said != found:
        raise CorruptDataError(f"{shard.name}: is {found}; the manifest says {said}")
    stream = isinstance(shard.schema, StreamSchema)
    starts = (structure.frame_starts[:-1] // 8).astype("<u4") if not stream else structure.documents
    fixed_stride = structure.shape.stride > 0
    for key, numbers in (
        ("row_index_at", starts[:0] if fixed_stride else starts),
        ("chunk_checksums_at", structure.chunk_checksums),
        ("page_checksums_at", structure.page_checksums),
    ):
        if index[entry[key] : entry[key] + numbers.nbytes] != numbers.tobytes():
            raise CorruptDataError(f"{shard.name}: the index file has other values at {key}={entry[key]}")
