"""Writing shards: names, leftovers, limits, and what a sealed shard says of itself."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import xxhash

from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.encode import EncodedRows, SampleEncoder
from fastfeed.format.layout import CHUNK_BYTES, PAYLOAD_END_MAX, SectionId
from fastfeed.format.reference import ReferenceShard, crc32c
from fastfeed.format.schema import Bytes, Scalar, Schema, Text
from fastfeed.format.stream import TokenShardWriter
from fastfeed.format.verify import ExpectedShard, verify_shard
from fastfeed.format.writer import ShardWriter
from tests.helpers.shard_parts import parts_of
from tests.helpers.shards import small_dictionary, write_shard, write_stream

SCHEMA = Schema({"x": Bytes(), "n": Scalar("int32")})
SAMPLES = [{"x": bytes([i]) * i, "n": i} for i in range(20)]


def test_a_sealed_shard_says_of_itself_what_the_file_says(tmp_path: Path) -> None:
    sealed = write_shard(tmp_path, SCHEMA, SAMPLES)
    data = sealed.path.read_bytes()
    structure = ReferenceShard(data).structure
    assert sealed.path == tmp_path / f"{sealed.uid.hex()}.ffs"
    assert (sealed.bytes, sealed.rows, sealed.tokens) == (len(data), 20, 0)
    assert sealed.payload_end == structure.shape.payload_end
    assert sealed.xxh3_128 == xxhash.xxh3_128_digest(data)
    assert sealed.row_index is not None
    assert sealed.row_index.tolist() == (structure.frame_starts[:-1] // 8).tolist()
    assert sealed.chunk_checksums.tolist() == [crc32c(data[: sealed.payload_end])]
    assert sealed.page_checksums is None
    home = pickle.loads(pickle.dumps(sealed))
    assert home.path == sealed.path
    assert home.row_index.tolist() == sealed.row_index.tolist()


def test_rows_of_one_size_have_no_row_index(tmp_path: Path) -> None:
    sealed = write_shard(tmp_path, Schema({"n": Scalar("int32")}), [{"n": i} for i in range(9)])
    assert sealed.row_index is None
    assert ReferenceShard(sealed.path).structure.shape.stride == 8


def test_nothing_but_the_shard_is_left_behind(tmp_path: Path) -> None:
    staging, final = tmp_path / "staging", tmp_path / "final"
    staging.mkdir()
    final.mkdir()
    writer = ShardWriter(staging, SCHEMA)
    writer.add(SampleEncoder(SCHEMA).encode_samples(SAMPLES))
    assert len(list(staging.iterdir())) == 1
    sealed = writer.finish(final)
    writer.abort()
    assert list(staging.iterdir()) == []
    assert list(final.iterdir()) == [sealed.path]
    assert sealed.path.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_aborted_writer_leaves_nothing_and_takes_nothing_more(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, SCHEMA)
    writer.add(SampleEncoder(SCHEMA).encode_samples(SAMPLES))
    writer.abort()
    writer.abort()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="finished or aborted"):
        writer.add(SampleEncoder(SCHEMA).encode_samples(SAMPLES))


@pytest.mark.parametrize(
    "make", [lambda place: ShardWriter(place, SCHEMA), lambda place: TokenShardWriter(place, "uint16")]
)
def test_an_empty_shard_is_refused_and_leaves_nothing(make: type, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        make(tmp_path).finish(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_adding_no_rows_changes_nothing(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, SCHEMA)
    writer.add(SampleEncoder(SCHEMA).encode_samples([]))
    assert (writer.rows, writer.bytes) == (0, 4096)
    writer.abort()


def test_a_folder_that_is_not_there_is_an_error_of_the_system_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ShardWriter(tmp_path / "missing", SCHEMA)
    writer = ShardWriter(tmp_path, SCHEMA)
    writer.add(SampleEncoder(SCHEMA).encode_samples(SAMPLES))
    with pytest.raises(FileNotFoundError):
        writer.finish(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


def test_the_same_rows_again_keep_the_shard_that_is_there(tmp_path: Path) -> None:
    first = write_shard(tmp_path, SCHEMA, SAMPLES)
    inode = first.path.stat().st_ino
    again = write_shard(tmp_path, SCHEMA, SAMPLES)
    assert again.uid == first.uid
    assert again.path.stat().st_ino == inode


def test_a_file_of_the_same_name_and_another_size_is_corrupt(tmp_path: Path) -> None:
    first = write_shard(tmp_path, SCHEMA, SAMPLES)
    first.path.write_bytes(b"half")
    with pytest.raises(CorruptDataError, match="exists with 4 bytes"):
        write_shard(tmp_path, SCHEMA, SAMPLES)
    assert list(tmp_path.iterdir()) == [first.path]


def test_content_decides_the_name(tmp_path: Path) -> None:
    text = Schema({"t": Text(codec="zstd")})
    samples = [{"t": "x"}]
    uids = {
        write_shard(tmp_path, SCHEMA, SAMPLES).uid,
        write_shard(tmp_path, SCHEMA, SAMPLES[::-1]).uid,
        write_shard(tmp_path, SCHEMA, SAMPLES[:-1]).uid,
        write_shard(tmp_path, text, samples).uid,
        write_shard(tmp_path, text, samples, dictionaries={"t": small_dictionary()}).uid,
        write_stream(tmp_path, "uint16", [[1, 2], [3]]).uid,
        write_stream(tmp_path, "uint16", [[1], [2, 3]]).uid,
        write_stream(tmp_path, "uint32", [[1, 2], [3]]).uid,
    }
    assert len(uids) == 8


def test_a_shard_beyond_32_gib_is_refused_before_it_is_written(tmp_path: Path) -> None:
    """Sizes are claimed, not allocated: the frames are a view that repeats one page."""
    writer = ShardWriter(tmp_path, SCHEMA)
    frames = np.lib.stride_tricks.as_strided(np.zeros(8, np.uint8), (PAYLOAD_END_MAX,), (0,))
    sizes = np.array([PAYLOAD_END_MAX], np.uint64)
    with pytest.raises(ConfigError, match="Use a smaller shard_size"):
        writer.add(EncodedRows(1, frames, sizes, np.zeros(1, np.uint32), []))
    assert writer.rows == 0
    writer.abort()


def test_a_shard_of_many_pieces_is_sealed_across_their_borders(tmp_path: Path) -> None:
    """Frames of 3 MiB and of 600 KB against pieces of 8 MiB and chunks of 1 MiB: none begins on a border."""
    rng = np.random.default_rng(5)
    samples = [{"x": rng.bytes(3 * CHUNK_BYTES if i % 4 == 0 else 600_000), "n": i} for i in range(12)]
    sealed = write_shard(tmp_path, SCHEMA, samples, cuts=[1, 5])
    assert len(sealed.chunk_checksums) == -(-sealed.payload_end // CHUNK_BYTES)
    assert list(verify_shard(sealed.path, ExpectedShard.of(sealed, SCHEMA.fingerprint))) == []


def test_a_stream_of_many_pieces_is_sealed_across_their_borders(tmp_path: Path) -> None:
    documents = [np.arange(n, dtype=np.uint32) for n in (3_000_000, 0, 17, 1_500_000)]
    sealed = write_stream(tmp_path, "uint32", documents)
    assert sealed.page_checksums is not None
    assert len(sealed.page_checksums) == (sealed.payload_end - 4096) // 4096
    fingerprint = stored_fingerprint(sealed.path)
    assert list(verify_shard(sealed.path, ExpectedShard.of(sealed, fingerprint))) == []


def stored_fingerprint(path: Path) -> bytes:
    return path.read_bytes()[56:72]


@pytest.mark.parametrize(
    ("tokens", "because"),
    [
        ([[1, 2]], "2 dimensions"),
        ([0.5], "array of float64"),
        ([-1], "tokens from -1 to -1 do not fit uint16"),
        ([1, 65536], "tokens from 1 to 65536 do not fit uint16"),
    ],
)
def test_a_document_that_does_not_fit_is_refused(tokens: list[float], because: str, tmp_path: Path) -> None:
    writer = TokenShardWriter(tmp_path, "uint16")
    with pytest.raises(ConfigError, match=because):
        writer.add(tokens)
    assert (writer.rows, writer.tokens, writer.bytes) == (0, 0, 4096)
    writer.abort()


def test_what_the_dataset_says_otherwise_is_found(tmp_path: Path) -> None:
    sealed = write_shard(tmp_path, SCHEMA, SAMPLES)
    other = write_shard(tmp_path, SCHEMA, SAMPLES[:-1])
    expected = ExpectedShard.of(other, bytes(16))
    found = "\n".join(str(finding) for finding in verify_shard(sealed.path, expected))
    for what in (
        "uid",
        "bytes",
        "rows",
        "payload end",
        "schema fingerprint",
        "row index",
        "chunk checksums",
        "xxh3-128",
    ):
        assert what in found, what
    assert str(sealed.path) in found


def test_a_damaged_row_is_named_and_the_search_goes_on(tmp_path: Path) -> None:
    sealed = write_shard(tmp_path, SCHEMA, SAMPLES)
    data = bytearray(sealed.path.read_bytes())
    assert sealed.row_index is not None
    for row in (3, 11):
        data[8 * int(sealed.row_index[row]) + 9] ^= 1
    sealed.path.write_bytes(data)
    findings = list(verify_shard(sealed.path))
    assert [finding.row for finding in findings if finding.row is not None] == [3, 11]
    assert all(finding.shard == sealed.uid.hex() for finding in findings)
    with pytest.raises(CorruptDataError, match="row 3: crc32c"):
        ReferenceShard(replaced_chunk_checksum(data, sealed.payload_end)).sample(3)


def replaced_chunk_checksum(data: bytearray, payload_end: int) -> bytes:
    """As if the damage had happened before the chunk checksums were taken."""
    parts = parts_of(bytes(data))
    parts.put(SectionId.CHUNK_CHECKSUMS, crc32c(bytes(data[:payload_end])).to_bytes(4, "little"))
    return parts.build()


def test_a_shard_that_cannot_be_opened_still_gets_its_chunks_checked_by_the_index(tmp_path: Path) -> None:
    sealed = write_shard(tmp_path, SCHEMA, SAMPLES)
    expected = ExpectedShard.of(sealed, SCHEMA.fingerprint)
    data = bytearray(sealed.path.read_bytes())
    data[0] ^= 1
    sealed.path.write_bytes(data)
    found = [finding.what for finding in verify_shard(sealed.path, expected)]
    assert any("does not begin with FFSHARD1" in what for what in found)
    assert any("chunk 0 (bytes 0.." in what for what in found)
    sealed.path.write_bytes(data[:-1])
    assert any("the manifest says" in finding.what for finding in verify_shard(sealed.path, expected))


def test_a_page_of_a_stream_that_is_damaged_is_named(tmp_path: Path) -> None:
    sealed = write_stream(tmp_path, "uint16", [range(10_000)])
    data = bytearray(sealed.path.read_bytes())
    data[4096 + 2 * 4096] ^= 1
    sealed.path.write_bytes(data)
    found = [finding.what for finding in verify_shard(sealed.path)]
    assert "page 2 is not what its checksum says; documents 0 to 0 are in it" in found


def test_the_example_frame_of_the_specification_is_what_the_writer_makes(tmp_path: Path) -> None:
    schema = Schema({"t": Text(codec="zstd", nullable=True), "n": Scalar("int16")})
    samples = [{"t": None, "n": 0}, {"t": "", "n": 1}, {"t": "hi", "n": -2}]
    frame = ReferenceShard(write_shard(tmp_path, schema, samples).path).frame(2)
    assert frame[4:].hex(" ") == "02 00 00 00 00 02 00 00 00 fe ff 68 69 00 00 00 00 00 00 00"
    page = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
    assert "02 00 00 00 00    02 00 00 00  fe ff    68 69       00 00 00 00 00 00 00" in page
