"""A sealed shard, as a commit needs it, out of its file: for shards that another process has written.

What is checked: header, trailer, directory and every section of the footer, all by their checksums. The payload is
not read; `fastfeed verify` does.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fastfeed._native.checksum import crc32c
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.layout import Digest, SectionId, dictionary_hash
from fastfeed.format.schema import Schema
from fastfeed.format.seal import SealedShard
from fastfeed.format.structure import ShardStructure, open_structure


def reopen_shard(path: Path, schema: Schema, xxh3_128: Digest) -> SealedShard:
    """The shard at `path`, of rows of `schema`, named after its uid. `xxh3_128` of the file is the caller's to know.

    CorruptDataError or FormatVersionError where it is not whole, ConfigError where it is of another schema."""
    structure, size_bytes = read_structure(path)
    if structure.schema.fingerprint != schema.fingerprint:
        raise ConfigError(f"{path}: has the schema {structure.schema!r}, not {schema!r}")
    row_index = None
    if not schema.stride:
        # Mapped, not read: the indexes of all shards of a commit together may be larger than the memory.
        section = structure.sections[SectionId.ROW_INDEX]
        row_index = np.memmap(path, "<u4", "r", section.offset, (structure.rows,))
    return SealedShard(
        uid=structure.uid,
        path=path,
        bytes=size_bytes,
        rows=structure.rows,
        payload_end=structure.shape.payload_end,
        xxh3_128=xxh3_128,
        row_index=row_index,
        chunk_checksums=structure.chunk_checksums,
        dictionaries={name: dictionary_hash(each) for name, each in structure.dictionaries.items()},
    )


def read_structure(path: Path) -> tuple[ShardStructure, int]:
    """(all of the shard but its payload, its length). CorruptDataError where that is damaged, or the name is not its
    uid."""
    with open(path, "rb") as file:
        descriptor = file.fileno()
        size_bytes = os.fstat(descriptor).st_size
        structure = open_structure(
            lambda offset, length: os.pread(descriptor, length, offset), size_bytes, crc32c, str(path)
        )
    if structure.uid.hex() != path.stem:
        raise CorruptDataError(f"{path}: is shard {structure.uid.hex()}")
    return structure, size_bytes
