"""Manifests: what a snapshot consists of, to bytes and back (docs/format.md, section 5.2).

Decoding copies nothing that grows with the number of shards: `ShardColumns` are numpy views of the mapped file.
Everything that a manifest can say wrongly is an error here (`manifest_checks.py` holds the columns' part), so that
those who read rows need not ask again. Files are others' business.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastfeed.dataset.index import IndexFile
from fastfeed.dataset.manifest_checks import check_shards
from fastfeed.dataset.present import PresentFile, bitmap_bytes
from fastfeed.errors import CorruptDataError, FormatVersionError
from fastfeed.format.arrow_file import read_batch, read_schema
from fastfeed.format.arrow_tail import TAIL_BYTES, open_sealed, seal
from fastfeed.format.layout import SCHEMA_BYTES_MAX, dictionary_hash
from fastfeed.format.schema import AnySchema, Codec, StreamSchema, schema_from_arrow

FORMAT_VERSION = "1"
DELETIONS = 1  # rows of the shards are left out: whoever does not know this would read them
KNOWN_INCOMPATIBLE_FLAGS = DELETIONS
# Blocks of about 4 MiB: large enough for one efficient read of any storage, small enough that 1,024 of them mix well.
BLOCK_BYTES = 4 << 20

_UID = pa.binary(16)
MANIFEST_TYPES = {
    "uid": _UID,
    "path": pa.string(),
    "bytes": pa.uint64(),
    "rows": pa.uint64(),
    "payload_end": pa.uint64(),
    "tokens": pa.uint64(),
    "xxh3_128": _UID,
    "index_file": pa.uint32(),
    "row_index_at": pa.uint64(),
    "chunk_checksums_at": pa.uint64(),
    "page_checksums_at": pa.uint64(),
    "dictionary_set": pa.uint32(),
}
# Arrow's names of columns -> ours; path and the two hashes are decoded apart.
_NUMBERS = {
    "bytes": "file_bytes",
    "rows": "rows",
    "payload_end": "payload_ends",
    "tokens": "tokens",
    "index_file": "index_file",
    "row_index_at": "row_index_at",
    "chunk_checksums_at": "chunk_checksums_at",
    "page_checksums_at": "page_checksums_at",
    "dictionary_set": "dictionary_set",
}

_DECIMAL = re.compile(r"[0-9]{1,20}", re.ASCII)
_INDEX_LINE = re.compile(r"([0-9a-f]{32}\.arrow) ([0-9]{1,20}) ([0-9a-f]{32})", re.ASCII)
_PRESENT_LINE = re.compile(r"([0-9a-f]{32}\.bits) ([0-9]{1,20}) ([0-9a-f]{32}) ([0-9]{1,20})", re.ASCII)
_DICTIONARY_LINE = re.compile(r"([0-9a-f]{32}) ([A-Za-z0-9+/=]+)", re.ASCII)

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ShardColumns:
    """One value a shard, in row order; S shards. Borrows the memory it was decoded from."""

    path_offsets: npt.NDArray[np.int32]  # [S + 1] into path_data
    path_data: npt.NDArray[np.uint8]  # UTF-8
    uids: npt.NDArray[np.uint8]  # [S, 16]
    xxh3_128: npt.NDArray[np.uint8]  # [S, 16], of the whole file
    file_bytes: U64
    rows: U64
    payload_ends: U64
    tokens: U64
    index_file: U32  # number in Manifest.index_files
    row_index_at: U64  # byte offsets in that file; 0: none
    chunk_checksums_at: U64
    page_checksums_at: U64
    dictionary_set: U32  # number in Manifest.dictionary_sets

    def __len__(self) -> int:
        return len(self.rows)

    def path(self, shard: int) -> str:
        """The path of shard number `shard`, relative to the dataset's folder or absolute."""
        start, stop = self.path_offsets[shard : shard + 2]
        return self.path_data[start:stop].tobytes().decode()

    def paths(self) -> list[str]:
        """The paths of all shards."""
        data = self.path_data.tobytes()
        return [data[start:stop].decode() for start, stop in pairwise(self.path_offsets.tolist())]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Manifest:
    """One snapshot. dictionary_sets: column -> dictionary, for the zstd columns that use one.

    rows: of all shards, deleted ones too. present: the bitmap file of the rows that are there; None: all of them.
    """

    snapshot: int
    parent: int
    schema: AnySchema
    rows: int
    tokens: int
    block_rows: int
    index_files: Sequence[IndexFile]
    dictionary_sets: Sequence[Mapping[str, bytes]]
    metadata: Mapping[str, Any]
    provenance: Mapping[str, Any]
    shards: ShardColumns
    present: PresentFile | None = None
    # What it was decoded from. The map holds the file (storage/local.py), and columns without a shard keep no map.
    file: memoryview | None = None

    @property
    def rows_present(self) -> int:
        """Rows that were not deleted: what readers count."""
        return self.rows if self.present is None else self.present.rows

    def encode(self) -> bytes:
        """The manifest's file."""
        batch = pa.RecordBatch.from_arrays(
            self._arrays(), schema=pa.schema(list(MANIFEST_TYPES.items()), metadata=self._texts())
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        sealed: bytes = seal(sink.getvalue().to_pybytes())
        return sealed

    def _arrays(self) -> list[pa.Array]:
        shards, count = self.shards, len(self.shards)
        buffers: dict[str, list[Any]] = {
            "uid": [None, shards.uids],
            "xxh3_128": [None, shards.xxh3_128],
            "path": [None, shards.path_offsets, shards.path_data],
            **{column: [None, getattr(shards, name)] for column, name in _NUMBERS.items()},
        }
        return [
            pa.Array.from_buffers(
                arrow_type, count,
                [None if each is None else pa.py_buffer(np.ascontiguousarray(each)) for each in buffers[column]],
            )
            for column, arrow_type in MANIFEST_TYPES.items()
        ]  # fmt: skip

    def _texts(self) -> dict[str, str]:
        present = self.present
        dictionaries = {each for group in self.dictionary_sets for each in group.values()}
        by_hash = {dictionary_hash(each).hex(): each for each in dictionaries}
        return {
            "fastfeed.format": FORMAT_VERSION,
            "fastfeed.incompatible_flags": str(0 if present is None else DELETIONS),
            "fastfeed.layout": self.schema.layout,
            "fastfeed.schema": base64.b64encode(self.schema.to_arrow().serialize()).decode(),
            "fastfeed.rows": str(self.rows),
            "fastfeed.tokens": str(self.tokens),
            "fastfeed.block_rows": str(self.block_rows),
            "fastfeed.snapshot": str(self.snapshot),
            "fastfeed.parent": str(self.parent),
            "fastfeed.index_files": "\n".join(
                f"{each.name} {each.bytes} {each.xxh3_128.hex()}" for each in self.index_files
            ),
            "fastfeed.dictionaries": "\n".join(
                f"{digest} {base64.b64encode(each).decode()}" for digest, each in sorted(by_hash.items())
            ),
            "fastfeed.dictionary_sets": "\n".join(_set_line(group) for group in self.dictionary_sets),
            "fastfeed.metadata": json.dumps(self.metadata, ensure_ascii=False),
            "fastfeed.provenance": json.dumps(self.provenance, ensure_ascii=False),
            **({} if present is None else {"fastfeed.present": _present_line(present)}),
        }


def decode_manifest(data: memoryview, name: str) -> Manifest:
    """Read a manifest's file. `name` is for messages.

    CorruptDataError where anything in it contradicts the format or itself, FormatVersionError where it needs a
    newer fastfeed. The result keeps `data` alive and copies nothing that grows with the shards.
    """
    batch = _read_batch(open_sealed(data, name), name)
    text = _Texts(batch.schema.metadata or {}, name)
    version = text["fastfeed.format"]
    flags = text.number("fastfeed.incompatible_flags")
    if version != FORMAT_VERSION or flags & ~KNOWN_INCOMPATIBLE_FLAGS:
        raise FormatVersionError(
            f"{name}: format {version}, incompatible flags {flags:#x}; this fastfeed reads format {FORMAT_VERSION} "
            f"with flags {KNOWN_INCOMPATIBLE_FLAGS:#x}. Upgrade fastfeed."
        )
    schema = text.schema()
    manifest = Manifest(
        snapshot=text.number("fastfeed.snapshot"),
        parent=text.number("fastfeed.parent"),
        schema=schema,
        rows=text.number("fastfeed.rows"),
        tokens=text.number("fastfeed.tokens"),
        block_rows=text.number("fastfeed.block_rows"),
        index_files=text.index_files(),
        dictionary_sets=text.dictionary_sets(schema),
        metadata=text.json_object("fastfeed.metadata"),
        provenance=text.json_object("fastfeed.provenance"),
        shards=_columns(batch),
        present=text.present(flags),
        file=data,
    )
    if manifest.block_rows < 1 or not 0 <= manifest.parent < manifest.snapshot:
        raise CorruptDataError(
            f"{name}: block_rows {manifest.block_rows}, snapshot {manifest.snapshot} and parent {manifest.parent} "
            "cannot be together"
        )
    check_shards(manifest, name)
    if (file := manifest.present) and (
        file.rows > manifest.rows or file.bytes != bitmap_bytes(manifest.rows) + TAIL_BYTES
    ):
        raise CorruptDataError(
            f"{name}: names a bitmap file of {file.bytes} bytes with {file.rows} rows for {manifest.rows} rows"
        )
    return manifest


def home_key(manifest: Manifest) -> int:
    """64 bits that name the dataset where its blocks are dealt to nodes (docs/deal.md): of its first shard's uid, so
    that they stay when rows are appended. 0 without shards."""
    return int.from_bytes(manifest.shards.uids[:1].tobytes()[:8], "little")


def _read_batch(buffer: pa.Buffer, name: str) -> pa.RecordBatch:
    batch = read_batch(buffer, name)
    types = dict(zip(batch.schema.names, batch.schema.types, strict=True))
    if types != MANIFEST_TYPES or len(types) != len(batch.schema):
        raise CorruptDataError(f"{name}: has the columns {types}, a manifest has {MANIFEST_TYPES}")
    if nulls := [column for column in types if batch.column(column).null_count]:
        raise CorruptDataError(f"{name}: has nulls in {', '.join(nulls)}")
    return batch


def _columns(batch: pa.RecordBatch) -> ShardColumns:
    count = batch.num_rows
    path_buffers = batch.column("path").buffers()
    offsets = _view(path_buffers[1], np.int32, count + 1) if count else np.zeros(1, np.int32)
    data = _view(path_buffers[2], np.uint8, int(offsets[-1]))
    # Not `to_numpy`: where pandas is installed, pyarrow imports it there, which takes half a second.
    numbers = {
        ours: _view(batch.column(column).buffers()[1], MANIFEST_TYPES[column].to_pandas_dtype(), count)
        for column, ours in _NUMBERS.items()
    }
    hashes = {
        ours: _view(batch.column(column).buffers()[1], np.uint8, count * 16).reshape(count, 16)
        for column, ours in (("uid", "uids"), ("xxh3_128", "xxh3_128"))
    }
    return ShardColumns(path_offsets=offsets, path_data=data, **numbers, **hashes)


def _view(buffer: pa.Buffer | None, dtype: Any, count: int) -> npt.NDArray[Any]:
    if buffer is None or count == 0:
        return np.zeros(0, dtype)
    return np.frombuffer(buffer, dtype, count)


class _Texts:
    """The schema metadata of a manifest, each value checked when asked for."""

    def __init__(self, metadata: Mapping[bytes, bytes], name: str) -> None:
        self._metadata = metadata
        self._name = name

    def __getitem__(self, key: str) -> str:
        try:
            return self._metadata[key.encode()].decode()
        except (KeyError, UnicodeDecodeError) as error:
            raise self._corrupt(key, f"is missing or not UTF-8 ({error})") from error

    def number(self, key: str) -> int:
        text = self[key]
        if not _DECIMAL.fullmatch(text) or int(text) >= 1 << 64:
            raise self._corrupt(key, f"is {text[:40]!r}, not a decimal u64")
        return int(text)

    def json_object(self, key: str) -> dict[str, Any]:
        try:
            value = json.loads(self[key])
        except (ValueError, RecursionError) as error:
            raise self._corrupt(key, f"is no JSON ({error})") from error
        if not isinstance(value, dict):
            raise self._corrupt(key, f"is a JSON {type(value).__name__}, not an object")
        return value

    def schema(self) -> AnySchema:
        data = self._base64("fastfeed.schema", self["fastfeed.schema"])
        if len(data) > SCHEMA_BYTES_MAX:
            raise self._corrupt("fastfeed.schema", f"has {len(data)} bytes, at most {SCHEMA_BYTES_MAX}")
        try:
            schema = schema_from_arrow(read_schema(data, "Arrow"))
        except CorruptDataError as error:
            raise self._corrupt("fastfeed.schema", f"describes no schema: {error}") from error
        if schema.layout != self["fastfeed.layout"]:
            raise self._corrupt("fastfeed.layout", f"is {self['fastfeed.layout']!r}, the schema's is {schema.layout!r}")
        return schema

    def index_files(self) -> tuple[IndexFile, ...]:
        files = []
        for line in self["fastfeed.index_files"].splitlines():
            match = _INDEX_LINE.fullmatch(line)
            if match is None or match[1] != f"{match[3]}.arrow" or int(match[2]) >= 1 << 63:
                raise self._corrupt("fastfeed.index_files", f"has the line {line[:100]!r}")
            files.append(IndexFile(match[1], int(match[2]), bytes.fromhex(match[3])))
        return tuple(files)

    def present(self, flags: int) -> PresentFile | None:
        key = "fastfeed.present"
        if not flags & DELETIONS:
            if key.encode() in self._metadata:
                raise self._corrupt(key, f"is there, and incompatible flags {flags:#x} know of no deletions")
            return None
        match = _PRESENT_LINE.fullmatch(self[key])
        if match is None or match[1] != f"{match[3]}.bits":
            raise self._corrupt(key, f"is {self[key][:100]!r}")
        return PresentFile(match[1], int(match[2]), bytes.fromhex(match[3]), int(match[4]))

    def dictionary_sets(self, schema: AnySchema) -> tuple[dict[str, bytes], ...]:
        key = "fastfeed.dictionary_sets"
        known = self._dictionaries()
        may_use = set() if isinstance(schema, StreamSchema) else {
            name for name, column in schema.items() if column.storage is Codec.ZSTD
        }  # fmt: skip
        sets = []
        for line in self[key].splitlines():
            group = {}
            for part in [] if line == "-" else line.split("\t"):
                quoted, _, digest = part.rpartition("=")
                column = self._column_name(key, quoted)
                if column not in may_use or column in group or digest not in known:
                    raise self._corrupt(
                        key, f"gives column {column!r} a dictionary {digest[:40]!r} that it cannot have"
                    )
                group[column] = known[digest]
            sets.append(group)
        return tuple(sets)

    def _dictionaries(self) -> dict[str, bytes]:
        key = "fastfeed.dictionaries"
        found = {}
        for line in self[key].splitlines():
            match = _DICTIONARY_LINE.fullmatch(line)
            if match is None:
                raise self._corrupt(key, f"has the line {line[:100]!r}")
            dictionary = self._base64(key, match[2])
            if dictionary_hash(dictionary).hex() != match[1]:
                raise self._corrupt(key, f"names a dictionary {match[1]} that has another hash")
            found[match[1]] = dictionary
        return found

    def _column_name(self, key: str, quoted: str) -> str:
        try:
            name = json.loads(quoted)
        except (ValueError, RecursionError) as error:
            raise self._corrupt(key, f"has {quoted[:100]!r} for a column ({error})") from error
        if not isinstance(name, str):
            raise self._corrupt(key, f"has {quoted[:100]!r} for a column")
        return name

    def _base64(self, key: str, text: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except ValueError as error:
            raise self._corrupt(key, f"is no base64 ({error})") from error

    def _corrupt(self, key: str, what: str) -> CorruptDataError:
        return CorruptDataError(f"{self._name}: {key} {what}")


def _present_line(file: PresentFile) -> str:
    return f"{file.name} {file.bytes} {file.xxh3_128.hex()} {file.rows}"


def _set_line(group: Mapping[str, bytes]) -> str:
    if not group:
        return "-"
    return "\t".join(f"{json.dumps(column)}={dictionary_hash(each).hex()}" for column, each in group.items())
