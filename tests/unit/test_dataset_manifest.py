"""Manifests: what is written comes back, and nothing that contradicts itself gets through."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import fastfeed as ff
from fastfeed.dataset.folder import manifest_name
from fastfeed.dataset.index import check_index_file, check_index_tail
from fastfeed.dataset.manifest import Manifest, decode_manifest
from fastfeed.errors import CorruptDataError, FormatVersionError
from fastfeed.format.arrow_tail import open_sealed
from fastfeed.storage.local import LocalStorage
from tests.helpers.hostile import altered, with_value, written

U64_MAX = (1 << 64) - 1


@pytest.fixture(scope="module")
def rows_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two shards of three rows with a dictionary set, in rows layout."""
    root = tmp_path_factory.mktemp("rows")
    schema = ff.Schema({"id": ff.Scalar("int64"), "text": ff.Text(codec="zstd")})
    with ff.DatasetWriter(root, schema, shard_size="64KiB", metadata={"classes": ["a", "ü"]}) as writer:
        for number in range(2600):
            writer.write({"id": number, "text": f"sample {number} says {'again and ' * (number % 9)}enough"})
    return manifest_bytes(root)


@pytest.fixture(scope="module")
def fixed_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = tmp_path_factory.mktemp("fixed")
    with ff.DatasetWriter(root, ff.Schema({"id": ff.Scalar("int64")})) as writer:
        for number in range(5):
            writer.write({"id": number})
    return manifest_bytes(root)


@pytest.fixture(scope="module")
def stream_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = tmp_path_factory.mktemp("stream")
    with ff.TokenWriter(root, "uint16", shard_size="64KiB") as writer:
        for length in (20_000, 30_000, 0, 10_000):
            writer.write(np.arange(length))
    return manifest_bytes(root)


def manifest_bytes(root: Path) -> bytes:
    return bytes(LocalStorage(root).map(manifest_name(1)))


def decode(data: bytes) -> Manifest:
    return decode_manifest(memoryview(data), "the-manifest")


def test_what_is_written_comes_back(rows_bytes: bytes) -> None:
    manifest = decode(rows_bytes)
    assert (manifest.snapshot, manifest.parent, manifest.rows, manifest.tokens) == (1, 0, 2600, 0)
    assert manifest.metadata == {"classes": ["a", "ü"]}
    assert manifest.provenance["command"] == "DatasetWriter"
    assert list(manifest.schema) == ["id", "text"]
    assert len(manifest.shards) >= 2
    assert manifest.shards.path(1) == f"shards/{manifest.shards.uids[1].tobytes().hex()}.ffs"
    assert set(manifest.dictionary_sets[0]) == {"text"}
    again = decode(manifest.encode())
    assert again.encode() == manifest.encode()


def test_columns_are_views_of_the_file(rows_bytes: bytes) -> None:
    shards = decode(rows_bytes).shards
    file = np.frombuffer(rows_bytes, np.uint8)
    for column in (shards.uids, shards.path_data, shards.path_offsets, shards.rows, shards.row_index_at):
        assert np.shares_memory(column, file)


def test_every_flipped_byte_is_noticed(fixed_bytes: bytes) -> None:
    for at in range(0, len(fixed_bytes), 7):
        damaged = bytearray(fixed_bytes)
        damaged[at] ^= 0x10
        with pytest.raises(CorruptDataError, match="the-manifest"):
            decode(bytes(damaged))


@pytest.mark.parametrize("size_bytes", [0, 10, 31, 32, 1000])
def test_a_manifest_that_was_cut_is_corrupt(fixed_bytes: bytes, size_bytes: int) -> None:
    with pytest.raises(CorruptDataError, match="the-manifest"):
        decode(fixed_bytes[:size_bytes])


ROWS_COLUMNS = [
    ("rows", with_value(0)),
    ("rows", with_value(1 << 32)),
    ("rows", with_value(7)),
    ("tokens", with_value(1)),
    ("payload_end", with_value(0)),
    ("payload_end", with_value(4097)),
    ("payload_end", with_value(U64_MAX - 7)),
    ("payload_end", with_value(4096)),
    ("bytes", with_value(0)),
    ("bytes", with_value(4096)),
    ("index_file", with_value(1)),
    ("index_file", with_value((1 << 32) - 1)),
    ("dictionary_set", with_value(9)),
    ("row_index_at", with_value(0)),
    ("row_index_at", with_value(9)),
    ("row_index_at", with_value(1 << 40)),
    ("row_index_at", with_value(U64_MAX - 3)),
    ("chunk_checksums_at", with_value(0)),
    ("chunk_checksums_at", with_value(1 << 40)),
    ("page_checksums_at", with_value(8)),
    ("path", with_value("")),  # type: ignore[arg-type]
    ("path", with_value("a\0b")),  # type: ignore[arg-type]
    ("rows", lambda array: array.cast(pa.int64())),
    ("rows", lambda array: pa.array([None, *array.to_pylist()[1:]], array.type)),
]


@pytest.mark.parametrize(("column", "change"), ROWS_COLUMNS)
def test_no_column_of_rows_may_contradict_the_others(
    rows_bytes: bytes, column: str, change: Callable[[Any], Any]
) -> None:
    with pytest.raises(CorruptDataError, match="the-manifest"):
        decode(altered(rows_bytes, {column: change}))


@pytest.mark.parametrize(
    ("column", "value"), [("rows", 6), ("row_index_at", 8), ("payload_end", 4096 + 5 * 24), ("bytes", 4096)]
)
def test_rows_of_one_size_fill_their_payload_and_have_no_index(fixed_bytes: bytes, column: str, value: int) -> None:
    with pytest.raises(CorruptDataError, match="shard 0 cannot have"):
        decode(altered(fixed_bytes, {column: with_value(value)}))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("tokens", 1),
        ("tokens", 1 << 32),
        ("payload_end", 4096),
        ("row_index_at", 0),
        ("page_checksums_at", 0),
        ("page_checksums_at", 1 << 40),
    ],
)
def test_no_column_of_a_stream_may_contradict_the_others(stream_bytes: bytes, column: str, value: int) -> None:
    with pytest.raises(CorruptDataError, match="shard 0 cannot have"):
        decode(altered(stream_bytes, {column: with_value(value)}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fastfeed.rows", "2599"),
        ("fastfeed.rows", "-1"),
        ("fastfeed.rows", str(1 << 64)),
        ("fastfeed.rows", None),
        ("fastfeed.tokens", "1"),
        ("fastfeed.block_rows", "0"),
        ("fastfeed.snapshot", "0"),
        ("fastfeed.parent", "1"),
        ("fastfeed.layout", "stream"),
        ("fastfeed.schema", "!"),
        ("fastfeed.schema", "aGVsbG8="),
        ("fastfeed.schema", "A" * (24 << 20)),
        ("fastfeed.metadata", "[]"),
        ("fastfeed.metadata", "{"),
        ("fastfeed.metadata", "[" * 100_000),
        ("fastfeed.provenance", "3"),
        ("fastfeed.index_files", ""),
        ("fastfeed.index_files", f"../{'0' * 32}.arrow 5 {'0' * 32}"),
        ("fastfeed.index_files", f"{'0' * 32}.arrow 5 {'1' * 32}"),
        ("fastfeed.index_files", f"{'0' * 32}.arrow {1 << 64} {'0' * 32}"),
        ("fastfeed.dictionaries", ""),
        ("fastfeed.dictionaries", f"{'0' * 32} aGVsbG8="),
        ("fastfeed.dictionaries", "hello"),
        ("fastfeed.dictionaries", f"{'0' * 32} ab=c"),
        ("fastfeed.dictionary_sets", ""),
        ("fastfeed.dictionary_sets", f'"id"={"0" * 32}'),
        ("fastfeed.dictionary_sets", f'"text"={"0" * 32}'),
        ("fastfeed.dictionary_sets", "text"),
        ("fastfeed.dictionary_sets", f"5={'0' * 32}"),
    ],
)
def test_no_text_of_a_manifest_may_be_wrong(rows_bytes: bytes, key: str, value: str | None) -> None:
    with pytest.raises(CorruptDataError, match="the-manifest"):
        decode(altered(rows_bytes, texts={key: value}))


@pytest.mark.parametrize(("key", "value"), [("fastfeed.format", "2"), ("fastfeed.incompatible_flags", "2")])
def test_a_newer_format_asks_for_an_upgrade(rows_bytes: bytes, key: str, value: str) -> None:
    with pytest.raises(FormatVersionError, match="Upgrade"):
        decode(altered(rows_bytes, texts={key: value}))


def test_other_arrow_files_are_no_manifests(rows_bytes: bytes) -> None:
    batch = pa.ipc.open_file(open_sealed(rows_bytes, "")).get_batch(0)
    for data in (
        written([batch, batch]),
        written([batch.select(["uid", "path"])]),
        written([batch], compression="zstd"),
        written([batch.rename_columns(["x", *batch.schema.names[1:]])]),
    ):
        with pytest.raises(CorruptDataError, match="the-manifest"):
            decode(data)


def test_an_empty_dataset_has_a_manifest_too(tmp_path: Path) -> None:
    with ff.DatasetWriter(tmp_path / "set", ff.Schema({"id": ff.Scalar("int64")})):
        pass
    manifest = decode(manifest_bytes(tmp_path / "set"))
    assert (manifest.rows, len(manifest.shards), manifest.block_rows, manifest.index_files) == (0, 0, 1, ())


class TestIndexFile:
    @pytest.fixture
    def index(self, rows_bytes: bytes, tmp_path: Path) -> tuple[bytearray, Any]:
        with ff.TokenWriter(tmp_path / "set", "uint32") as writer:
            writer.write(np.arange(5000))
        storage = LocalStorage(tmp_path / "set")
        file = decode(bytes(storage.map(manifest_name(1)))).index_files[0]
        return bytearray(storage.map(f"_feed/index/{file.name}")), file

    def test_a_whole_one_passes(self, index: tuple[bytearray, Any]) -> None:
        check_index_file(memoryview(index[0]), index[1], "index")

    def test_reading_all_of_it_finds_what_its_tail_does_not_tell(self, index: tuple[bytearray, Any]) -> None:
        data, file = index
        data[len(data) // 2] ^= 1
        check_index_tail(memoryview(data), file, "index")
        with pytest.raises(CorruptDataError, match="index: xxh3"):
            check_index_file(memoryview(data), file, "index")

    @pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:-32] + bytes(32), lambda _: b""])
    def test_its_tail_tells_that_it_is_another_or_not_whole(
        self, index: tuple[bytearray, Any], change: Callable[[bytearray], bytes]
    ) -> None:
        data, file = index
        with pytest.raises(CorruptDataError, match="index: "):
            check_index_tail(memoryview(change(data)), file, "index")


def test_provenance_and_metadata_are_json(rows_bytes: bytes) -> None:
    metadata = pa.ipc.open_file(open_sealed(rows_bytes, "")).schema.metadata
    assert json.loads(metadata[b"fastfeed.provenance"])["created"].endswith("+00:00")
