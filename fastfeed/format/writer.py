"""Writing a shard in rows layout.

Frames go to the staging file as they come; 8 bytes a row stay in memory (where it starts, its crc), and the
lanes. The order in which rows are added is the order of the shard; how they were split into calls leaves no
trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastfeed._native.frames import seal_crcs
from fastfeed.errors import ConfigError
from fastfeed.format import layout
from fastfeed.format.columns import LaneValues
from fastfeed.format.encode import EncodedRows, used_dictionaries
from fastfeed.format.growing import GrowingArray
from fastfeed.format.layout import (
    PAYLOAD_END_MAX,
    ROWS_MAX,
    SECTION_ALIGN,
    Digest,
    Header,
    LayoutKind,
    SectionId,
    ShardShape,
)
from fastfeed.format.schema import Schema
from fastfeed.format.seal import Piece, SealedShard, Sections, StagingFile


class ShardWriter:
    """Writes one shard. Not thread-safe. Ends with finish() or abort(); a writer left open leaves its staging
    file.

    `staging_folder` must be on the file system of the final folder. `dictionaries` are those of the encoder.
    """

    def __init__(self, staging_folder: Path, schema: Schema, dictionaries: Mapping[str, bytes] | None = None) -> None:
        self.schema = schema
        self._dictionaries = used_dictionaries(schema, dictionaries or {})
        self._dictionaries_section = layout.pack_dictionaries(self._dictionaries.values())
        self._prefix = layout.uid_prefix(schema.fingerprint, LayoutKind.ROWS, self._dictionaries_section)
        self._staging = StagingFile(staging_folder, self._prefix)
        self._starts = GrowingArray("<u4")  # of each frame, in units of 8 bytes from the start of the file
        self._body_crcs = GrowingArray("<u4")
        self._lanes = [_GrowingLane(field) for field in schema.lanes]

    @property
    def rows(self) -> int:
        """Rows so far."""
        return len(self._starts)

    @property
    def bytes(self) -> int:
        """Bytes of header and frames so far."""
        return self._staging.payload_end

    def add(self, encoded: EncodedRows) -> None:
        """Append rows. ConfigError where the shard would break a limit; it is unchanged then."""
        if self.bytes + encoded.bytes > PAYLOAD_END_MAX or self.rows + encoded.rows > ROWS_MAX:
            raise ConfigError(
                f"a shard of {self.bytes + encoded.bytes} bytes and {self.rows + encoded.rows} rows; at most "
                f"{PAYLOAD_END_MAX} and {ROWS_MAX}. Use a smaller shard_size."
            )
        if encoded.rows == 0:
            return
        ends = np.cumsum(encoded.sizes) + np.uint64(self.bytes)
        self._starts.extend((ends - encoded.sizes) // np.uint64(SECTION_ALIGN))
        self._body_crcs.extend(encoded.body_crcs)
        for lane, values in zip(self._lanes, encoded.lanes, strict=True):
            lane.extend(values)
        self._staging.append(encoded.frames)

    def finish(self, final_folder: Path) -> SealedShard:
        """Seal the shard and give it its name in `final_folder`. On any error the staging file is removed."""
        try:
            return self._finish(final_folder)
        finally:
            self.abort()

    def abort(self) -> None:
        """Throw the rows away. Idempotent; nothing after finish()."""
        self._staging.abort()

    def _finish(self, final_folder: Path) -> SealedShard:
        if self.rows == 0:
            raise ConfigError("a shard has at least one row; nothing was added")
        uid = self._staging.uid()
        payload_end = self._staging.payload_end
        header = Header(uid=uid, schema_fingerprint=self.schema.fingerprint, layout=LayoutKind.ROWS)
        checksums, digest, file_bytes = self._staging.seal(
            header, lambda start, piece: self._patch(uid, start, piece), self._sections
        )
        return SealedShard(
            uid=uid,
            path=self._staging.publish(final_folder, uid),
            bytes=file_bytes,
            rows=self.rows,
            payload_end=payload_end,
            xxh3_128=digest,
            row_index=None if self.schema.stride else self._starts.array.copy(),
            chunk_checksums=checksums,
            dictionaries=self._hashes(),
        )

    def _patch(self, uid: Digest, start: int, piece: Piece) -> None:
        """Write the crcs of the frames that begin in `piece`. Frames and pieces begin at multiples of 8."""
        starts = self._starts.array
        first_unit = start // SECTION_ALIGN
        first, stop = np.searchsorted(starts, [first_unit, first_unit + piece.nbytes // SECTION_ALIGN])
        if first == stop:
            return
        crcs = seal_crcs(uid, int(first), self._body_crcs.array[first:stop], self._sizes(int(first), int(stop)))
        words = piece.view("<u4")
        words[(starts[first:stop].astype(np.int64) - first_unit) * (SECTION_ALIGN // 4)] = crcs

    def _sizes(self, first: int, stop: int) -> npt.NDArray[np.uint64]:
        starts = self._starts.array[first : stop + 1].astype(np.uint64)
        if stop == self.rows:
            starts = np.append(starts, np.uint64(self._staging.payload_end // SECTION_ALIGN))
        return np.diff(starts) * np.uint64(SECTION_ALIGN)

    def _sections(self, chunk_checksums: Piece) -> Sections:
        shape = ShardShape(rows=self.rows, payload_end=self._staging.payload_end, stride=self.schema.stride)
        sections = [(SectionId.SHAPE, shape.pack())]
        if not self.schema.stride:
            sections.append((SectionId.ROW_INDEX, self._starts.array.tobytes()))
        if self._lanes:
            sections.append((SectionId.LANES, _lanes_file(self.schema.lanes, self._lanes)))
        sections.append((SectionId.CHUNK_CHECKSUMS, chunk_checksums.tobytes()))
        if self._dictionaries_section:
            sections.append((SectionId.DICTIONARIES, self._dictionaries_section))
        schema = self.schema.to_arrow(self._hashes()).serialize().to_pybytes()
        return [*sections, (SectionId.SCHEMA, schema)]

    def _hashes(self) -> dict[str, Digest]:
        return {name: layout.dictionary_hash(each) for name, each in self._dictionaries.items()}


class _GrowingLane:
    """One lane while rows are added."""

    def __init__(self, field: pa.Field) -> None:
        self._type = field.type
        is_bool = pa.types.is_boolean(field.type)
        self._values = GrowingArray("u1" if is_bool else np.dtype(field.type.to_pandas_dtype()).newbyteorder("<"))
        self._nulls = GrowingArray("u1") if field.nullable else None

    def extend(self, lane: LaneValues) -> None:
        self._values.extend(lane.values)
        if self._nulls is not None:
            self._nulls.extend(np.zeros(len(lane.values), "u1") if lane.nulls is None else lane.nulls)

    def to_arrow(self) -> pa.Array:
        """The lane in buffers of its own, so that no byte of them depends on how rows were added."""
        values = self._values.array
        data = _bitmap(values) if pa.types.is_boolean(self._type) else values
        nulls = None if self._nulls is None else self._nulls.array
        valid = None if nulls is None or not nulls.any() else pa.py_buffer(_bitmap(nulls ^ 1))
        return pa.Array.from_buffers(self._type, len(values), [valid, pa.py_buffer(data)])


def _lanes_file(schema: pa.Schema, lanes: Sequence[_GrowingLane]) -> bytes:
    batch = pa.RecordBatch.from_arrays([lane.to_arrow() for lane in lanes], schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as file:
        file.write_batch(batch)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _bitmap(bits: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    return np.packbits(bits.view(np.uint8), bitorder="little")
