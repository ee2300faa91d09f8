"""Datasets that lie about shards of another one: made with every checksum of their own right."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xxhash

from fastfeed._native.checksum import crc32c, crc32c_blocks
from fastfeed.dataset.folder import INDEX_FOLDER, MANIFEST_FOLDER, manifest_name, snapshot_numbers
from fastfeed.dataset.index import IndexFile
from fastfeed.dataset.manifest import Manifest, ShardColumns, decode_manifest
from fastfeed.format.arrow_tail import TAIL_BYTES, Tail
from fastfeed.format.layout import CHUNK_BYTES, HEADER_BYTES, SECTION_ALIGN, SectionId
from fastfeed.storage.local import LocalStorage
from tests.helpers.shard_parts import parts_of

LIES = ("checksums", "size")


def forge(dataset: Path, forged: Path, lie: str) -> None:
    """Write a dataset at `forged` with the shards of `dataset`, its sibling, and a lie about checksums or size."""
    assert lie in LIES
    number = snapshot_numbers(LocalStorage(dataset))[-1]
    manifest = decode_manifest(memoryview((dataset / manifest_name(number)).read_bytes()), "good")
    (forged / MANIFEST_FOLDER).mkdir(parents=True)
    (forged / INDEX_FOLDER).mkdir(parents=True)
    indexes = [bytearray((dataset / INDEX_FOLDER / each.name).read_bytes()) for each in manifest.index_files]
    shards = manifest.shards
    if lie == "checksums":
        for shard in range(len(shards)):
            at = int(shards.chunk_checksums_at[shard])
            indexes[shards.index_file[shard]][at] ^= 0xFF
    else:
        shards = dataclasses.replace(shards, file_bytes=shards.file_bytes + np.uint64(4096))
    files = [_write_index(forged, bytes(data[:-TAIL_BYTES])) for data in indexes]
    shards = _with_paths(shards, [f"s3://bucket/{dataset.name}/{path}" for path in shards.paths()])
    lying: Manifest = dataclasses.replace(manifest, shards=shards, index_files=files)
    (forged / manifest_name(number)).write_bytes(lying.encode())


def take_uids(dataset: Path, victim: Path) -> None:
    """Rewrite the shards of `dataset`, which are as long as those of `victim`, under the uids of those: same names,
    same seeds of all crcs, other bytes. No frame's crc tells the two apart; only the hash that a uid should be would.
    """
    number = snapshot_numbers(LocalStorage(dataset))[-1]
    manifest, other = (
        decode_manifest(memoryview((each / manifest_name(number)).read_bytes()), "good") for each in (dataset, victim)
    )
    shards, uids = manifest.shards, other.shards.uids
    assert shards.file_bytes.tolist() == other.shards.file_bytes.tolist()
    indexes = [bytearray((dataset / INDEX_FOLDER / each.name).read_bytes()) for each in manifest.index_files]
    digests, paths = [], []
    for shard, path in enumerate(shards.paths()):
        uid = uids[shard].tobytes()
        data, checksums = _with_uid((dataset / path).read_bytes(), uid, int(shards.payload_ends[shard]))
        at = int(shards.chunk_checksums_at[shard])
        indexes[shards.index_file[shard]][at : at + len(checksums)] = checksums
        digests.append(xxhash.xxh3_128_digest(data))
        paths.append(f"shards/{uid.hex()}.ffs")
        (dataset / path).unlink()
        (dataset / paths[-1]).write_bytes(data)
    shards = dataclasses.replace(
        _with_paths(shards, paths), uids=uids.copy(),
        xxh3_128=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16),
    )  # fmt: skip
    files = [_write_index(dataset, bytes(data[:-TAIL_BYTES])) for data in indexes]
    lying = dataclasses.replace(manifest, shards=shards, index_files=files)
    (dataset / manifest_name(number)).write_bytes(lying.encode())


def _with_uid(shard: bytes, uid: bytes, payload_end: int) -> tuple[bytes, bytes]:
    """A shard of rows under another uid, and the checksums of its chunks."""
    parts = parts_of(shard)
    parts.header[40:56] = uid
    struct.pack_into("<I", parts.header, 4092, crc32c(bytes(parts.header[:4092])))
    payload = bytearray(parts.payload)
    starts = np.frombuffer(parts.section(SectionId.ROW_INDEX), "<u4").astype(int) * SECTION_ALIGN
    for row, (start, stop) in enumerate(zip(starts, [*starts[1:], payload_end], strict=True)):
        at = start - HEADER_BYTES
        frame = bytes(payload[at + 4 : stop - HEADER_BYTES])
        struct.pack_into("<I", payload, at, crc32c(frame, crc32c(uid + struct.pack("<Q", row))))
    whole = np.frombuffer(bytes(parts.header) + payload[: payload_end - HEADER_BYTES], np.uint8)
    checksums = crc32c_blocks(whole, CHUNK_BYTES).astype("<u4").tobytes()
    parts.payload = bytes(payload)
    parts.put(SectionId.CHUNK_CHECKSUMS, checksums)
    return parts.build(), checksums


def _with_paths(shards: ShardColumns, paths: Sequence[str]) -> ShardColumns:
    data = np.frombuffer("".join(paths).encode(), np.uint8)
    offsets = np.concatenate([[0], np.cumsum([len(path.encode()) for path in paths])]).astype(np.int32)
    return dataclasses.replace(shards, path_data=data, path_offsets=offsets)


def _write_index(forged: Path, arrow: bytes) -> IndexFile:
    digest = xxhash.xxh3_128_digest(arrow)
    name = f"{digest.hex()}.arrow"
    (forged / INDEX_FOLDER / name).write_bytes(arrow + Tail(len(arrow), digest).pack())
    return IndexFile(name, len(arrow) + TAIL_BYTES, digest)
