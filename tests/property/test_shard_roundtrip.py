"""What a shard holds is what was written, whatever the schema, the values and the calls."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastfeed.errors import CorruptDataError, FormatVersionError
from fastfeed.format.encode import SampleEncoder
from fastfeed.format.from_python import dump_json
from fastfeed.format.reference import ReferenceShard
from fastfeed.format.schema import Bytes, ColumnType, Kind, Scalar, Schema, Text
from fastfeed.format.verify import ExpectedShard, verify_shard
from tests.helpers.shards import same, shard_contents, small_dictionary, write_shard, write_stream

quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@quick
@given(shard_contents())
def test_the_reference_reader_returns_what_was_written(content: tuple[Schema, list[dict[str, Any]]]) -> None:
    schema, samples = content
    with folder() as place:
        sealed = write_shard(place, schema, samples)
        shard = ReferenceShard(sealed.path)
        shard.check()
        found = list(shard.samples())
        assert shard.schema == schema
        assert len(found) == len(samples)
        assert all(same(a, b) for a, b in zip(found, samples, strict=True)), (found, samples)
        assert list(verify_shard(sealed.path, ExpectedShard.of(sealed, schema.fingerprint))) == []


@quick
@given(shard_contents(), st.data())
def test_the_file_does_not_depend_on_how_rows_were_split_into_calls(
    content: tuple[Schema, list[dict[str, Any]]], data: st.DataObject
) -> None:
    schema, samples = content
    cuts = data.draw(st.lists(st.integers(0, len(samples)), max_size=4))
    with folder() as place, folder() as other:
        whole, cut = write_shard(place, schema, samples), write_shard(other, schema, samples, cuts=cuts)
        assert whole.uid == cut.uid
        assert whole.path.read_bytes() == cut.path.read_bytes()


@quick
@given(shard_contents())
def test_record_batches_and_samples_give_the_same_frames(content: tuple[Schema, list[dict[str, Any]]]) -> None:
    schema, samples = content
    arrow = schema.to_arrow()
    columns = [
        pa.array([arrow_value(column, sample[name]) for sample in samples], arrow.field(name).type)
        for name, column in schema.items()
    ]
    batch = pa.RecordBatch.from_arrays(columns, names=schema.names)
    encoder = SampleEncoder(schema)
    by_samples, by_batch = encoder.encode_samples(samples), encoder.encode_batch(batch)
    assert by_samples.frames.tobytes() == by_batch.frames.tobytes()
    assert by_samples.sizes.tolist() == by_batch.sizes.tolist()
    for left, right in zip(by_samples.lanes, by_batch.lanes, strict=True):
        assert left.values.tobytes() == right.values.tobytes()


def arrow_value(column: ColumnType, value: Any) -> Any:
    if column.kind is Kind.JSON:
        return None if value is None and column.nullable else dump_json(value)
    return value.reshape(-1).tolist() if isinstance(value, np.ndarray) else value


@quick
@given(
    st.sampled_from(["uint16", "uint32"]),
    st.lists(st.lists(st.integers(0, 2**16 - 1), max_size=3000), min_size=1, max_size=4),
)
def test_a_stream_returns_its_documents(dtype: str, documents: list[list[int]]) -> None:
    with folder() as place:
        sealed = write_stream(place, dtype, documents)
        shard = ReferenceShard(sealed.path)
        shard.check()
        assert [sample["tokens"].tolist() for sample in shard.samples()] == documents
        assert sealed.tokens == sum(map(len, documents))
        assert list(verify_shard(sealed.path, ExpectedShard.of(sealed, shard.schema.fingerprint))) == []


def small_shards(place: Path) -> list[bytes]:
    """One shard of each build: all sections, a fixed stride, a stream."""
    everything = Schema({"n": Scalar("int32", nullable=True), "t": Text(codec="zstd"), "b": Bytes()})
    samples = [{"n": None if i % 2 else i, "t": "word " * 10 * i, "b": bytes(i)} for i in range(5)]
    rows = write_shard(place, everything, samples, dictionaries={"t": small_dictionary()})
    fixed = write_shard(place, Schema({"x": Scalar("float64")}), [{"x": i / 3} for i in range(7)])
    stream = write_stream(place, "uint16", [range(300), [], range(50)])
    return [sealed.path.read_bytes() for sealed in (rows, fixed, stream)]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return small_shards(tmp_path_factory.mktemp("pristine"))


@settings(max_examples=100, deadline=None)
@given(which=st.integers(0, 2), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(pristine: list[bytes], which: int, where: float, bit: int) -> None:
    damaged = bytearray(pristine[which])
    damaged[int(where * len(damaged))] ^= 1 << bit
    with pytest.raises((CorruptDataError, FormatVersionError)):
        ReferenceShard(damaged).check()
    with folder() as place:
        path = place / "damaged.ffs"
        path.write_bytes(damaged)
        assert list(verify_shard(path)) != []


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_change_anywhere_in_the_small_structures_is_found(pristine: list[bytes], which: int, tmp_path: Path) -> None:
    """Every fifth byte of head, payload, sections, directory and trailer: each field is met by one at least."""
    data = pristine[which]
    path = tmp_path / "damaged.ffs"
    places = [*range(0, 100, 7), *range(4088, 4400, 5), *range(max(4400, len(data) - 1500), len(data), 5)]
    for at in places:
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        assert list(verify_shard(path)) != [], f"byte {at} of {len(data)}"


@settings(max_examples=60, deadline=None)
@given(which=st.integers(0, 2), where=st.floats(0, 1, exclude_max=True))
def test_any_truncation_is_found(pristine: list[bytes], which: int, where: float) -> None:
    cut = pristine[which][: int(where * len(pristine[which]))]
    with pytest.raises(CorruptDataError):
        ReferenceShard(cut)
    with folder() as place:
        path = place / "cut.ffs"
        path.write_bytes(cut)
        assert list(verify_shard(path)) != []
