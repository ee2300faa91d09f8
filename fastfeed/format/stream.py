"""Writing a shard in stream layout: one array of tokens, cut into documents (docs/format.md, section 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastfeed._native.checksum import crc32c_seeded_pages
from fastfeed.errors import ConfigError
from fastfeed.format import layout
from fastfeed.format.growing import GrowingArray
from fastfeed.format.layout import (
    HEADER_BYTES,
    PAGE_BYTES,
    ROWS_MAX,
    TOKENS_MAX,
    Digest,
    Header,
    LayoutKind,
    SectionId,
    ShardShape,
)
from fastfeed.format.schema import StreamSchema
from fastfeed.format.seal import Piece, SealedShard, Sections, StagingFile


class TokenShardWriter:
    """Writes one shard of a stream; each add() is a document. Not thread-safe. Ends with finish() or abort().

    `staging_folder` must be on the file system of the final folder.
    """

    def __init__(self, staging_folder: Path, dtype: str) -> None:
        self.schema = StreamSchema(dtype)
        self._dtype = np.dtype(self.schema.dtype).newbyteorder("<")
        prefix = layout.uid_prefix(self.schema.fingerprint, LayoutKind.STREAM, b"")
        self._staging = StagingFile(staging_folder, prefix)
        self._starts = GrowingArray("<u4")  # of each document, in tokens
        self.tokens = 0
        self._pages: list[npt.NDArray[np.uint32]] = []

    @property
    def rows(self) -> int:
        """Documents so far."""
        return len(self._starts)

    @property
    def bytes(self) -> int:
        """Bytes of header and tokens so far."""
        return self._staging.payload_end

    def add(self, tokens: npt.ArrayLike) -> None:
        """Append one document: integers that fit the token type, one-dimensional. Empty documents count."""
        document = self._document(tokens)
        if self.tokens + len(document) > TOKENS_MAX or self.rows + 1 > ROWS_MAX:
            raise ConfigError(
                f"a shard of {self.tokens + len(document)} tokens in {self.rows + 1} documents; at most {TOKENS_MAX} "
                f"and {ROWS_MAX}. Use a smaller shard_size."
            )
        self._starts.extend(np.array([self.tokens], "<u4"))
        self._staging.append(document)
        self.tokens += len(document)

    def finish(self, final_folder: Path) -> SealedShard:
        """Seal the shard and give it its name in `final_folder`. On any error the staging file is removed."""
        try:
            return self._finish(final_folder)
        finally:
            self.abort()

    def abort(self) -> None:
        """Throw the documents away. Idempotent; nothing after finish()."""
        self._staging.abort()

    def _document(self, tokens: npt.ArrayLike) -> npt.NDArray[Any]:
        given = np.asarray(tokens)
        if given.size == 0:
            given = given.astype(self._dtype)
        if given.ndim != 1 or given.dtype.kind not in "iu":
            raise ConfigError(
                f"document {self.rows}: an array of {given.dtype} and {given.ndim} dimensions; a document is one "
                f"dimension of integers that fit {self.schema.dtype}"
            )
        if given.dtype == self._dtype or given.size == 0:
            return np.ascontiguousarray(given, self._dtype)
        low, high = int(given.min()), int(given.max())
        if low < 0 or high > np.iinfo(self._dtype).max:
            raise ConfigError(
                f"document {self.rows}: tokens from {low} to {high} do not fit {self.schema.dtype}. Use uint32, or "
                "check the tokenizer."
            )
        return given.astype(self._dtype)

    def _finish(self, final_folder: Path) -> SealedShard:
        if self.rows == 0:
            raise ConfigError("a shard has at least one document; nothing was added")
        uid = self._staging.uid(suffix=self._starts.array.tobytes())
        self._staging.pad(PAGE_BYTES)
        payload_end = self._staging.payload_end
        header = Header(uid=uid, schema_fingerprint=self.schema.fingerprint, layout=LayoutKind.STREAM)
        checksums, digest, file_bytes = self._staging.seal(
            header, lambda start, piece: self._take_pages(uid, start, piece), self._sections
        )
        return SealedShard(
            uid=uid,
            path=self._staging.publish(final_folder, uid),
            bytes=file_bytes,
            rows=self.rows,
            payload_end=payload_end,
            tokens=self.tokens,
            xxh3_128=digest,
            row_index=self._starts.array.copy(),
            chunk_checksums=checksums,
            page_checksums=self._page_checksums(),
        )

    def _take_pages(self, uid: Digest, start: int, piece: Piece) -> None:
        skip = HEADER_BYTES if start == 0 else 0
        if piece.nbytes > skip:
            first_page = (start + skip - HEADER_BYTES) // PAGE_BYTES
            self._pages.append(crc32c_seeded_pages(piece[skip:], uid, first_page))

    def _page_checksums(self) -> npt.NDArray[np.uint32]:
        return np.concatenate([np.empty(0, "<u4"), *self._pages]).astype("<u4", copy=False)

    def _sections(self, chunk_checksums: Piece) -> Sections:
        shape = ShardShape(
            rows=self.rows,
            payload_end=self._staging.payload_end,
            tokens=self.tokens,
            token_bytes=self.schema.token_bytes,
        )
        return [
            (SectionId.SHAPE, shape.pack()),
            (SectionId.CHUNK_CHECKSUMS, chunk_checksums.tobytes()),
            (SectionId.SCHEMA, self.schema.to_arrow().serialize().to_pybytes()),
            (SectionId.PAGE_CHECKSUMS, self._page_checksums().tobytes()),
            (SectionId.DOCUMENT_INDEX, self._starts.array.tobytes()),
        ]
