"""Verifying a shard: reads every byte, checks every checksum, and says what is wrong where.

Memory is bounded: pieces of 8 MiB, or one frame if it is larger, besides the shard's sections. A finding does not end
the search unless nothing behind it can be located. The values inside of frames are not decoded, but all bytes are held
against what was written: by the frame's crc, the chunk's, the section's, the uid and the file's xxh3-128.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from fastfeed._native.checksum import crc32c, crc32c_blocks, crc32c_seeded_pages
from fastfeed._native.frames import FrameLayout
from fastfeed.errors import CorruptDataError, FormatVersionError
from fastfeed.format import layout
from fastfeed.format.layout import CHUNK_BYTES, HEADER_BYTES, PAGE_BYTES, SECTION_ALIGN
from fastfeed.format.schema import Schema
from fastfeed.format.seal import SealedShard
from fastfeed.format.shard_bytes import FileBytes, ShardBytes
from fastfeed.format.specs import column_specs
from fastfeed.format.structure import ShardStructure, open_structure

PIECE_BYTES = 8 * CHUNK_BYTES
# Of one kind in one shard: a shard that is all wrong needs no report of each page.
FINDING_COUNT_MAX = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not what was written."""

    file: str
    shard: str | None  # uid in hex, where it could be read
    row: int | None
    what: str

    def __str__(self) -> str:
        parts = [self.file, *([] if self.row is None else [f"row {self.row}"]), self.what]
        return ": ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedShard:
    """What a manifest and its index file say of a shard. Arrays may be views of a mapped index."""

    uid: bytes
    bytes: int
    rows: int
    payload_end: int
    tokens: int
    xxh3_128: layout.Digest
    schema_fingerprint: layout.Digest
    row_index: npt.NDArray[np.uint32] | None  # stream: the document index; None where frames have one size
    chunk_checksums: npt.NDArray[np.uint32]
    page_checksums: npt.NDArray[np.uint32] | None

    @classmethod
    def of(cls, sealed: SealedShard, schema_fingerprint: layout.Digest) -> ExpectedShard:
        """What a commit of this shard will say."""
        return cls(
            uid=sealed.uid,
            bytes=sealed.bytes,
            rows=sealed.rows,
            payload_end=sealed.payload_end,
            tokens=sealed.tokens,
            xxh3_128=sealed.xxh3_128,
            schema_fingerprint=schema_fingerprint,
            row_index=sealed.row_index,
            chunk_checksums=sealed.chunk_checksums,
            page_checksums=sealed.page_checksums,
        )


def verify_shard(path: str | Path, expected: ExpectedShard | None = None) -> Iterator[Finding]:
    """Read the whole shard and yield what is wrong with it. A file that cannot be read raises OSError."""
    with open(path, "rb") as file:
        yield from verify_bytes(str(path), FileBytes(file.fileno()), expected)


def verify_bytes(name: str, shard: ShardBytes, expected: ExpectedShard | None = None) -> Iterator[Finding]:
    """As `verify_shard`, of one that is open; `name` is what findings call it."""
    yield from _Verifier(name, shard, expected).findings()


class _Verifier:
    def __init__(self, name: str, shard: ShardBytes, expected: ExpectedShard | None) -> None:
        self._name = name
        self._shard = shard
        self._expected = expected
        self._file_bytes = shard.size_bytes
        self._uid: str | None = None if expected is None else expected.uid.hex()

    def findings(self) -> Iterator[Finding]:
        try:
            structure = open_structure(self._range, self._file_bytes, crc32c, self._name)
        except (CorruptDataError, FormatVersionError) as error:
            yield self._finding(str(error).removeprefix(f"{self._name}: "))
            yield from self._check_file_without_structure()
            return
        self._uid = structure.uid.hex()
        if self._expected is not None:
            yield from self._compare(structure, self._expected)
        yield from self._check_file(structure)
        if isinstance(structure.schema, Schema):
            yield from self._check_frames(structure, structure.schema)
        else:
            yield from self._check_stream(structure)

    # --- the file as bytes ---

    def _check_file_without_structure(self) -> Iterator[Finding]:
        """Which chunks are damaged, by the index of the dataset, though the shard itself cannot be opened."""
        expected = self._expected
        if expected is None:
            return
        if expected.bytes != self._file_bytes:
            yield self._finding(f"the file has {self._file_bytes} bytes, the manifest says {expected.bytes}")
            return
        yield from self._check_pieces(expected.payload_end, expected.chunk_checksums, expected.xxh3_128)

    def _check_file(self, structure: ShardStructure) -> Iterator[Finding]:
        digest = None if self._expected is None else self._expected.xxh3_128
        yield from self._check_pieces(structure.shape.payload_end, structure.chunk_checksums, digest)

    def _check_pieces(
        self, payload_end: int, chunk_checksums: npt.NDArray[np.uint32], digest: bytes | None
    ) -> Iterator[Finding]:
        whole = xxhash.xxh3_128()
        bad: list[int] = []
        for start in range(0, payload_end, PIECE_BYTES):
            piece = self._range(start, min(PIECE_BYTES, payload_end - start))
            whole.update(piece)
            checksums = crc32c_blocks(piece, CHUNK_BYTES)
            first = start // CHUNK_BYTES
            wrong = np.flatnonzero(checksums != chunk_checksums[first : first + len(checksums)])
            bad += [first + int(i) for i in wrong]
        for chunk in bad[:FINDING_COUNT_MAX]:
            end = min((chunk + 1) * CHUNK_BYTES, payload_end)
            yield self._finding(f"chunk {chunk} (bytes {chunk * CHUNK_BYTES}..{end - 1}) is not what its checksum says")
        for start in range(payload_end, self._file_bytes, PIECE_BYTES):
            whole.update(self._range(start, min(PIECE_BYTES, self._file_bytes - start)))
        if digest is not None and whole.digest() != digest:
            yield self._finding(f"the file has xxh3-128 {whole.hexdigest()}, the manifest says {digest.hex()}")

    # --- rows ---

    def _check_frames(self, structure: ShardStructure, schema: Schema) -> Iterator[Finding]:
        frame_layout = FrameLayout(column_specs(schema))
        content = self._content_hash(structure)
        starts = structure.frame_starts
        count = 0
        first = 0
        while first < structure.rows:
            # As many frames as a piece holds, and one at least.
            stop = int(np.searchsorted(starts, starts[first] + np.uint64(PIECE_BYTES), side="right")) - 1
            stop = min(max(stop, first + 1), structure.rows)
            data = bytearray(self._range(int(starts[first]), int(starts[stop] - starts[first])))
            offsets = starts[first : stop + 1] - starts[first]
            for row, what in frame_layout.check_many(data, offsets, structure.uid, first):
                count += 1
                if count <= FINDING_COUNT_MAX:
                    yield self._finding(what, row)
            np.frombuffer(data, "<u4")[(offsets[:-1] // np.uint64(4)).astype(np.int64)] = 0
            content.update(data)
            first = stop
        yield from self._check_uid(structure, content)

    def _check_stream(self, structure: ShardStructure) -> Iterator[Finding]:
        content = self._content_hash(structure)
        shape = structure.shape
        token_end = HEADER_BYTES + shape.tokens * shape.token_bytes
        count = 0
        for start in range(HEADER_BYTES, shape.payload_end, PIECE_BYTES):
            piece = self._range(start, min(PIECE_BYTES, shape.payload_end - start))
            first = (start - HEADER_BYTES) // PAGE_BYTES
            checksums = crc32c_seeded_pages(piece, structure.uid, first)
            for page in np.flatnonzero(checksums != structure.page_checksums[first : first + len(checksums)]):
                count += 1
                if count <= FINDING_COUNT_MAX:
                    yield self._page_finding(structure, first + int(page))
            tokens = piece[: max(0, token_end - start)]
            if piece[len(tokens) :].strip(b"\0"):
                yield self._finding("the padding after the last token is not zero")
            content.update(tokens)
        content.update(structure.documents.tobytes())
        yield from self._check_uid(structure, content)

    def _page_finding(self, structure: ShardStructure, page: int) -> Finding:
        """A page that is damaged, and the documents that lie in it."""
        tokens_per_page = PAGE_BYTES // structure.shape.token_bytes
        ends = np.append(structure.documents[1:], np.uint32(structure.shape.tokens))
        first = int(np.searchsorted(ends, page * tokens_per_page, side="right"))
        last = int(np.searchsorted(structure.documents, (page + 1) * tokens_per_page, side="left")) - 1
        return self._finding(
            f"page {page} is not what its checksum says; documents {first} to {last} are in it", row=first
        )

    def _content_hash(self, structure: ShardStructure) -> xxhash.xxh3_128:
        header = structure.header
        return xxhash.xxh3_128(
            layout.uid_prefix(header.schema_fingerprint, header.layout, structure.dictionaries_section)
        )

    def _check_uid(self, structure: ShardStructure, content: xxhash.xxh3_128) -> Iterator[Finding]:
        if content.digest() != structure.uid:
            yield self._finding(f"the content has the uid {content.hexdigest()}, the header says {structure.uid.hex()}")

    # --- what the dataset says ---

    def _compare(self, structure: ShardStructure, expected: ExpectedShard) -> Iterator[Finding]:
        shape = structure.shape
        for what, found, said in (
            ("uid", structure.uid.hex(), expected.uid.hex()),
            ("bytes", self._file_bytes, expected.bytes),
            ("rows", shape.rows, expected.rows),
            ("payload end", shape.payload_end, expected.payload_end),
            ("tokens", shape.tokens, expected.tokens),
            (
                "schema fingerprint",
                structure.header.schema_fingerprint.hex(),
                expected.schema_fingerprint.hex(),
            ),
        ):
            if found != said:
                yield self._finding(f"the shard has {what} {found}, the manifest says {said}")
        starts = structure.documents
        if isinstance(structure.schema, Schema):
            starts = (structure.frame_starts[:-1] // np.uint64(SECTION_ALIGN)).astype(np.uint32)
        for name, shard_has, index_has in (
            ("row index", starts[:0] if shape.stride else starts, expected.row_index),
            ("chunk checksums", structure.chunk_checksums, expected.chunk_checksums),
            ("page checksums", structure.page_checksums, expected.page_checksums),
        ):
            if not np.array_equal(shard_has, shard_has[:0] if index_has is None else index_has):
                yield self._finding(f"the {name} of the shard and of the dataset's index file differ")

    def _range(self, offset: int, length: int) -> bytes:
        data = self._shard.read_at(offset, length)
        if len(data) < length:
            raise CorruptDataError(f"{self._name}: ends at {offset + len(data)}; someone cut it while it was read")
        return data

    def _finding(self, what: str, row: int | None = None) -> Finding:
        return Finding(self._name, self._uid, row, what)
