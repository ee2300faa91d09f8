"""A shard on its way to its name: the part that both layouts share.

1. Open a staging file, leave 4 KiB for the header, append the payload while its content is hashed.
2. Finish: the hash gives the uid. Go once over the payload in pieces: write header and crcs, which need the
   uid, into it, and take the chunk checksums and the file's xxh3-128 from the same bytes.
3. Append sections, directory and trailer; fsync; link to <uid>.ffs; fsync the folder; remove the staging
   name.

A crash before the link leaves a `*.partial` file that nothing names. An existing <uid>.ffs has the same
content, since the uid is a hash of it, and is kept. Memory: a piece and the write buffer, besides what the
caller keeps a row.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from fastfeed._native.checksum import crc32c, crc32c_blocks
from fastfeed.errors import CorruptDataError
from fastfeed.format import layout
from fastfeed.format.layout import CHUNK_BYTES, HEADER_BYTES, Digest, Header, SectionId, Trailer

# Large enough that a write costs a copy and no more; small batches of small rows are gathered to it.
WRITE_BUFFER_BYTES = 512 * 1024
# A multiple of a chunk; two pieces and the buffer stay far under 32 MiB a shard.
PIECE_BYTES = CHUNK_BYTES

Piece = npt.NDArray[np.uint8]
Sections = Sequence[tuple[SectionId, bytes]]
# (file offset of the piece, the piece): patches the piece in place. Called once per piece, in order.
Patch = Callable[[int, Piece], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedShard:
    """A finished shard, as a commit needs it. Pickles, so that a worker process can send it home."""

    uid: Digest
    path: Path
    bytes: int
    rows: int  # stream: documents
    payload_end: int
    tokens: int = 0
    xxh3_128: Digest
    row_index: npt.NDArray[np.uint32] | None  # stream: the document index; None where frames have one size
    chunk_checksums: npt.NDArray[np.uint32]
    page_checksums: npt.NDArray[np.uint32] | None = None
    dictionaries: dict[str, Digest] = field(default_factory=dict)  # column -> hash of its dictionary


class StagingFile:
    """The file of one shard before it has a name. Not thread-safe. Close it by finish or abort."""

    def __init__(self, folder: Path, prefix: bytes) -> None:
        """`prefix` is what the hash of the uid begins with (layout.uid_prefix)."""
        self.path = folder / f"{os.getpid()}-{secrets.token_hex(8)}.partial"
        # Gathered by us and not by Python's buffer: a forked child that exits would flush its copy of that into the
        # file, at the position that it shares with us.
        self._file: FileIO | None = open(self.path, "x+b", buffering=0)  # noqa: SIM115
        self._waiting = bytearray()
        self._hash = xxhash.xxh3_128(prefix)
        self.payload_end = HEADER_BYTES
        self._write(memoryview(bytes(HEADER_BYTES)))

    @property
    def closed(self) -> bool:
        """Whether it was published or aborted."""
        return self._file is None

    def append(self, content: npt.NDArray[np.generic]) -> None:
        """Append payload that counts for the uid."""
        if content.nbytes == 0:
            return
        self._write(content.data.cast("B"))
        self._hash.update(content.data)
        self.payload_end += content.nbytes

    def pad(self, unit: int) -> None:
        """Append zeros, which do not count for the uid, to a multiple of `unit`."""
        missing = layout.align(self.payload_end, unit) - self.payload_end
        self._write(memoryview(bytes(missing)))
        self.payload_end += missing

    def uid(self, suffix: bytes = b"") -> bytes:
        """The uid, given what the hash ends with. The payload must be complete."""
        complete = self._hash.copy()
        complete.update(suffix)
        return complete.digest()

    def seal(
        self, header: Header, patch: Patch, sections: Callable[[Piece], Sections]
    ) -> tuple[npt.NDArray[np.uint32], bytes, int]:
        """Write everything that follows from the uid; `sections` gets the chunk checksums as bytes of u32.

        Return (chunk checksums, xxh3-128 of the file, its length). The file is on disk afterwards.
        """
        file = self._open_file
        self._write_waiting()
        packed_header = np.frombuffer(header.pack(crc32c), np.uint8)
        whole = xxhash.xxh3_128()
        checksums: list[npt.NDArray[np.uint32]] = []
        buffer = np.empty(min(PIECE_BYTES, self.payload_end), np.uint8)
        for start in range(0, self.payload_end, PIECE_BYTES):
            piece = buffer[: min(PIECE_BYTES, self.payload_end - start)]
            _pread_exactly(file.fileno(), piece, start, self.path)
            if start == 0:
                piece[:HEADER_BYTES] = packed_header
            patch(start, piece)
            checksums.append(crc32c_blocks(piece, CHUNK_BYTES))
            whole.update(piece.data)
            _pwrite_all(file.fileno(), piece, start)
        chunk_checksums = np.concatenate(checksums).astype("<u4", copy=False)
        tail = _tail(header.uid, self.payload_end, sections(chunk_checksums.view(np.uint8)))
        whole.update(tail)
        file.seek(self.payload_end)
        _write_all(file, memoryview(tail))
        os.fsync(file.fileno())
        return chunk_checksums, whole.digest(), self.payload_end + len(tail)

    def publish(self, final_folder: Path, uid: bytes) -> Path:
        """Give the sealed file its name, and forget the staging name."""
        file = self._open_file
        size_bytes = os.fstat(file.fileno()).st_size
        target = final_folder / f"{uid.hex()}.ffs"
        try:
            os.link(self.path, target)
        except FileExistsError:
            existing_bytes = target.stat().st_size
            if existing_bytes != size_bytes:
                raise CorruptDataError(
                    f"{target}: exists with {existing_bytes} bytes; a shard of this name has {size_bytes}. "
                    "Remove it and try again."
                ) from None
        fsync_folder(final_folder)
        self.abort()
        return target

    def abort(self) -> None:
        """Remove the staging file. Idempotent."""
        if self._file is not None:
            file, self._file = self._file, None
            self.path.unlink(missing_ok=True)
            file.close()

    def _write(self, content: memoryview) -> None:
        """Append to the file, small contents together."""
        file = self._open_file
        if len(self._waiting) + len(content) > WRITE_BUFFER_BYTES:
            self._write_waiting()
        if len(content) < WRITE_BUFFER_BYTES:
            self._waiting += content
        else:
            _write_all(file, content)

    def _write_waiting(self) -> None:
        with memoryview(self._waiting) as waiting:
            _write_all(self._open_file, waiting)
        self._waiting.clear()

    @property
    def _open_file(self) -> FileIO:
        if self._file is None:
            raise ValueError(f"{self.path}: the shard is finished or aborted")
        return self._file


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tail(uid: bytes, payload_end: int, sections: Sections) -> bytes:
    """Everything after the payload."""
    body, directory, directory_offset = layout.place_sections(sections, payload_end, crc32c)
    trailer = Trailer(
        directory_offset=directory_offset,
        directory_bytes=len(directory),
        file_bytes=directory_offset + len(directory) + layout.TRAILER_BYTES,
        uid=uid,
        directory_crc=crc32c(directory),
        section_count=len(sections),
    )
    return body + directory + trailer.pack(crc32c)


def _write_all(file: FileIO, content: memoryview) -> None:
    done = 0
    while done < len(content):
        done += file.write(content[done:])


def _pread_exactly(descriptor: int, into: Piece, offset: int, path: Path) -> None:
    done = 0
    while done < into.nbytes:
        count = os.preadv(descriptor, [into[done:].data], offset + done)
        if count == 0:
            raise CorruptDataError(f"{path}: ends at {offset + done}; someone cut it while it was written")
        done += count


def _pwrite_all(descriptor: int, piece: Piece, offset: int) -> None:
    done = 0
    while done < piece.nbytes:
        done += os.pwrite(descriptor, piece[done:].data, offset + done)
