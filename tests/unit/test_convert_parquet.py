"""Parquet: what every Arrow type becomes, files that differ, and files that are damaged."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastfeed.convert.parquet import Parquet
from fastfeed.convert.schema_file import given_type
from fastfeed.convert.wanted import Wanted
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.schema import Array, Bytes, ColumnType, Image, Json, Scalar, Tensor, Text
from tests.helpers.image_folders import encoded
from tests.helpers.sources import written

JPEG = encoded("chelsea", 0, "JPEG", (24, 16))
DAY = datetime.date(2020, 1, 2)
MOMENT = datetime.datetime(2020, 1, 2, 3, 4, 5, 6)


def source_of(tmp_path: Path, *tables: pa.Table, wanted: Wanted | None = None, **options: Any) -> Parquet:
    (tmp_path / "in").mkdir(exist_ok=True)
    for part, table in enumerate(tables):
        pq.write_table(table, tmp_path / "in" / f"{part}.parquet", **options)
    return Parquet(root=tmp_path / "in", wanted=wanted or Wanted())


class TestTypes:
    @pytest.mark.parametrize(
        ("array", "wanted", "values"),
        [
            (pa.array([1, 2], pa.uint16()), Scalar("uint16"), [1, 2]),
            (pa.array([0.5], pa.float16()), Scalar("float16"), [0.5]),
            (pa.array([True, None]), Scalar("bool", nullable=True), [True, None]),
            (pa.array(["ä"], pa.large_string()), Text(), ["ä"]),
            (pa.array(["a", "b", "a"]).dictionary_encode(), Text(), ["a", "b", "a"]),
            (pa.array([b"ab"], pa.binary(2)), Bytes(), [b"ab"]),
            (pa.array([b"x", JPEG]), Bytes(), [b"x", JPEG]),
            (pa.array([None, JPEG]), Image(nullable=True), [None, JPEG]),
            (pa.array([{"bytes": JPEG, "path": "a.jpg"}]), Image(), [JPEG]),
            (pa.array([{"bytes": b"RIFFxxxxWAVE", "path": "a.wav"}]), Bytes(), [b"RIFFxxxxWAVE"]),
            (pa.array([[1], []], pa.list_(pa.int8())), Array("int8", (None,), nullable=True), [[1], []]),
            (pa.array([[1, 2]], pa.large_list(pa.float64())), Array("float64", (None,)), [[1, 2]]),
            (pa.array([[1, 2]], pa.list_(pa.int32(), 2)), Tensor("int32", (2,)), [[1, 2]]),
            (
                pa.array([[[1, 2], [3, 4]]], pa.list_(pa.list_(pa.int32(), 2))),
                Array("int32", (None, 2)),
                [[[1, 2], [3, 4]]],
            ),
            (pa.array([[[1], [2]]], pa.list_(pa.list_(pa.int32(), 1), 2)), Tensor("int32", (2, 1)), [[[1], [2]]]),
            (pa.array([[[1], [2, 3]]]), Json(), [[[1], [2, 3]]]),
            (pa.array([["a", None]]), Json(nullable=True), [["a", None]]),
            (pa.array([{"a": {"b": [1]}}, {"a": None}]), Json(nullable=True), [{"a": {"b": [1]}}, {"a": None}]),
            (
                pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
                Json(nullable=True),
                [{"k": 1}, None],
            ),
            (
                pa.array([{"m": [[("k", 1)]]}], pa.struct([("m", pa.list_(pa.map_(pa.string(), pa.int64())))])),
                Json(),
                [{"m": [{"k": 1}]}],
            ),
            (pa.array([decimal.Decimal("1.50")]), Text(), ["1.50"]),
            (pa.nulls(2), Text(nullable=True), [None, None]),
            (pa.array([DAY]), Scalar("int32"), [18263]),
            (pa.array([MOMENT], pa.timestamp("us")), Scalar("int64"), [1577934245000006]),
            (pa.array([7], pa.time32("ms")), Scalar("int32"), [7]),
            (pa.array([7], pa.duration("ns")), Scalar("int64"), [7]),
        ],
    )
    def test_each_type_and_its_values(
        self, tmp_path: Path, array: pa.Array, wanted: ColumnType, values: list[Any]
    ) -> None:
        source = source_of(tmp_path, pa.table({"a": array}))
        assert source.plan(None).schema["a"] == wanted
        assert [sample["a"] for sample in written(source, tmp_path).samples] == values

    def test_a_tensor_extension_keeps_its_shape(self, tmp_path: Path) -> None:
        storage = pa.array([[1, 2, 3, 4, 5, 6]], pa.list_(pa.int16(), 6))
        array = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.int16(), (2, 3)), storage)
        source = source_of(tmp_path, pa.table({"a": array}))
        assert source.plan(None).schema["a"] == Tensor("int16", (2, 3))
        assert written(source, tmp_path).samples == [{"a": [[1, 2, 3], [4, 5, 6]]}]

    def test_times_keep_their_unit_in_the_metadata(self, tmp_path: Path) -> None:
        table = pa.table({"when": pa.array([MOMENT], pa.timestamp("ms", "UTC")), "day": [DAY], "x": [1]})
        plan = source_of(tmp_path, table, wanted=Wanted(rename=(("when", "t"),))).plan(None)
        assert plan.metadata == {"arrow_types": {"t": "timestamp[ms, tz=UTC]", "day": "date32[day]"}}

    def test_what_json_cannot_hold_is_an_error_unless_it_is_left_out(self, tmp_path: Path) -> None:
        table = pa.table({"a": [[DAY]], "b": [1]})
        with pytest.raises(ConfigError, match=r"column 'a': list<.*date32.*--columns"):
            source_of(tmp_path, table).plan(None)
        assert written(source_of(tmp_path, table, wanted=Wanted(columns=("b",))), tmp_path).samples == [{"b": 1}]

    def test_a_column_is_nullable_where_a_null_is_or_nobody_counted(self, tmp_path: Path) -> None:
        table = pa.table({"some": [1, None], "none": [1, 2]})
        assert {name: column.nullable for name, column in source_of(tmp_path, table).plan(None).schema.items()} == {
            "some": True,
            "none": False,
        }
        uncounted = source_of(tmp_path, table, write_statistics=False)
        assert uncounted.plan(None).schema["none"] == Scalar("int64", nullable=True)

    def test_class_names_and_features_of_the_datasets_library_are_used(self, tmp_path: Path) -> None:
        """A value that is no image at first sight is one, because the file says so."""
        features = {
            "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
            "a": {"_type": "Image"},
            "b": {"dtype": "int64", "_type": "Value"},
        }
        metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        table = pa.table({"label": [1], "a": [b"BM"], "b": [2]}).replace_schema_metadata(metadata)
        plan = source_of(tmp_path, table).plan(None)
        assert plan.metadata == {"classes": ["cat", "dog"]}
        assert plan.schema["a"] == Image()
        broken = table.replace_schema_metadata({b"huggingface": b"[1]"})
        assert source_of(tmp_path, broken).plan(None).metadata == {}

    def test_given_types_are_taken(self, tmp_path: Path) -> None:
        table = pa.table(
            {
                "i": [1, 300],
                "d": [decimal.Decimal("1.5"), decimal.Decimal("2.5")],
                "t": [DAY, DAY],
                "b": ["x", "y"],
                "n": [[[1, 2]], [[3, 4]]],
                "image": [{"bytes": JPEG, "path": ""}] * 2,
            }
        )
        types = {
            "i": given_type({"type": "scalar", "dtype": "int8"}),
            "d": given_type({"type": "scalar", "dtype": "float32"}),
            "t": given_type({"type": "text"}),
            "b": given_type({"type": "bytes"}),
            "n": given_type({"type": "tensor", "dtype": "int16", "shape": [1, 2]}),
            "image": given_type({"type": "bytes", "nullable": True}),
        }
        source = source_of(tmp_path, table, wanted=Wanted(types=types))
        found = written(source, tmp_path, on_error="skip")
        assert found.samples == [
            {"i": 1, "d": 1.5, "t": "2020-01-02", "b": b"x", "n": [[1, 2]], "image": JPEG},
        ]
        assert [rejected.where for rejected in found.rejected] == ["row 1"]

    def test_a_given_type_that_no_value_can_fit_is_an_error_of_the_plan(self, tmp_path: Path) -> None:
        wanted = Wanted(types={"a": given_type({"type": "image"})})
        with pytest.raises(ConfigError, match=r"column 'a': Arrow type int64 does not fit"):
            source_of(tmp_path, pa.table({"a": [1]}), wanted=wanted).plan(None)


class TestFiles:
    def test_files_with_other_numbers_and_other_columns_become_one(self, tmp_path: Path) -> None:
        first = pa.table({"a": pa.array([1], pa.int32()), "b": [1], "c": pa.nulls(1)})
        second = pa.table({"b": [0.5], "a": pa.array([2**40]), "c": ["x"], "d": [True]})
        source = source_of(tmp_path, first, second)
        assert dict(source.plan(None).schema) == {
            "a": Scalar("int64"),
            "b": Scalar("float64"),
            "c": Text(nullable=True),
            "d": Scalar("bool", nullable=True),
        }
        assert written(source, tmp_path).samples == [
            {"a": 1, "b": 1.0, "c": None, "d": None},
            {"a": 2**40, "b": 0.5, "c": "x", "d": True},
        ]

    @pytest.mark.parametrize(
        ("second", "says"),
        [
            (pa.table({"a": ["x"]}), "Unable to merge|incompatible"),
            (pa.table({"a": pa.array([1], pa.timestamp("s"))}), r"'a' is timestamp\[ms\], and was"),
        ],
    )
    def test_files_that_do_not_fit_together_are_an_error(self, tmp_path: Path, second: pa.Table, says: str) -> None:
        first = pa.table({"a": pa.array([1], pa.timestamp("us"))}) if "timestamp" in says else pa.table({"a": [1]})
        with pytest.raises(ConfigError, match=rf"1\.parquet: has other columns than the files before it: .*({says})"):
            source_of(tmp_path, first, second).plan(None)

    def test_names_with_dots_and_empty_row_groups_are_no_harm(self, tmp_path: Path) -> None:
        table = pa.table({"a.b": [1, 2], "a": [{"b": 3}, {"b": 4}]})
        source = source_of(tmp_path, table.slice(0, 0), table)
        assert written(source, tmp_path).samples == table.to_pylist()

    def test_files_without_rows_are_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="holds no rows"):
            source_of(tmp_path, pa.table({"a": pa.array([], pa.int64())})).plan(None)

    def test_two_columns_of_one_name_are_an_error(self, tmp_path: Path) -> None:
        table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
        with pytest.raises(ConfigError, match="two columns of one name"):
            source_of(tmp_path, table).plan(None)

    def test_text_that_is_not_utf8_rejects_its_row(self, tmp_path: Path) -> None:
        text = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
        found = written(source_of(tmp_path, pa.table({"a": text})), tmp_path, on_error="skip")
        assert [sample["a"] for sample in found.samples] == ["a", "c"]
        assert [rejected.where for rejected in found.rejected] == ["row 1"]


class TestDamage:
    def test_a_file_that_is_cut_off_is_named_and_the_others_are_kept(self, tmp_path: Path) -> None:
        table = pa.table({"a": list(range(100))})
        source = source_of(tmp_path, table, table, table)
        path = tmp_path / "in" / "1.parquet"
        path.write_bytes(path.read_bytes()[:-40])
        plan = source.plan(None)
        assert plan.rejected is not None
        with pytest.raises(CorruptDataError, match=r"in/1\.parquet: is no whole Parquet file"):
            written(source, tmp_path)
        found = written(source, tmp_path, on_error="skip")
        assert [sample["a"] for sample in found.samples] == [*range(100), *range(100)]
        assert [tuple(rejected) for rejected in found.rejected] == [tuple(plan.rejected)]

    def test_a_flipped_byte_under_a_page_checksum_loses_the_rest_of_its_row_group(self, tmp_path: Path) -> None:
        table = pa.table({"a": list(range(20_000))})
        options: dict[str, Any] = {"row_group_size": 10_000, "use_dictionary": False, "compression": "none"}
        source = source_of(
            tmp_path, table, write_page_checksum=True, data_page_size=4096, write_batch_size=128, **options
        )
        path = tmp_path / "in" / "0.parquet"
        content = bytearray(path.read_bytes())
        content[content.index((5_000).to_bytes(8, "little") + (5_001).to_bytes(8, "little"))] ^= 1
        path.write_bytes(content)
        with pytest.raises(CorruptDataError, match=r"in/0\.parquet: rows [\d,]+ to 9,999: .*CRC"):
            written(source, tmp_path)
        found = written(source, tmp_path, on_error="skip")
        values = [sample["a"] for sample in found.samples]
        kept = len(values) - 10_000
        assert values == [*range(kept), *range(10_000, 20_000)]
        assert 0 <= kept <= 5_000
        assert found.rejected[0].where == f"rows {kept:,} to 9,999"

    def test_a_first_page_that_is_damaged_is_said_when_it_is_read(self, tmp_path: Path) -> None:
        source = source_of(tmp_path, pa.table({"a": [b"xyz"] * 10}), write_page_checksum=True, compression="none")
        path = tmp_path / "in" / "0.parquet"
        path.write_bytes(path.read_bytes().replace(b"xyz", b"xyw", 1))
        assert source.plan(None).schema["a"] == Bytes()
        with pytest.raises(CorruptDataError, match=r"in/0\.parquet: rows 0 to 9: .*CRC"):
            written(source, tmp_path)

    def test_a_file_that_is_no_parquet_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        (tmp_path / "x.parquet").write_bytes(b"PAR1" + b"x" * 100)
        with pytest.raises(CorruptDataError, match=r"x\.parquet: is no whole Parquet file"):
            Parquet(root=tmp_path / "x.parquet").plan(None)
