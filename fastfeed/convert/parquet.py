"""The parquet source: one file, a folder of them, or a brace pattern.

Columns keep the names and the order of the files; the types are those of parquet_types.py. An item is a
slice of one row group, about 4 MiB. A row group is decoded as a stream, page by page: how large it is does
not matter for memory, but a shard that begins inside one costs the decoding of what is before it.

Files must agree on their columns, but for numbers that widen (int32 and int64, int and float) and columns
that some files lack, which become nullable.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from fastfeed.convert.files import InputFile, InputFiles, find_files
from fastfeed.convert.files_source import FilesSource
from fastfeed.convert.parquet_cursor import Cursors, GroupKey, open_file
from fastfeed.convert.parquet_types import fit, found_type, is_binary, plain_type
from fastfeed.convert.sniff import is_image
from fastfeed.convert.source import Item, Place, Plan, Rejected, Rows
from fastfeed.convert.wanted import Wanted
from fastfeed.errors import ConfigError
from fastfeed.format.encode import SampleEncoder
from fastfeed.format.schema import Bytes, ColumnType, Schema
from fastfeed.format.wording import count_text

SUFFIXES = (".parquet", ".pq", ".parq")
# Batches of 1 MiB stay in the processor's cache on their way into frames: 0.57 s for 1 M records of 600 B, against
# 0.72 s with 4 MiB.
BATCHES_PER_ITEM = 4
# Of small rows: columns of some bytes each need little beside them.
BATCH_ROWS_MAX = 1 << 14
# How far to look for a first value that is not null, to see whether bytes are images.
SNIFF_ROWS_MAX = 1024
SNIFF_ROWS = 16  # at a time


@dataclass(frozen=True)
class Footer:
    """What the end of one file says."""

    file: InputFile
    digest: str  # xxh3-64 of the footer, which holds sizes and places of all pages
    rows: Sequence[int]  # of each row group
    bytes: Sequence[int]  # of each row group, decompressed
    schema: pa.Schema
    nullable: Mapping[str, bool]  # column -> whether it may hold nulls


@dataclass(frozen=True, kw_only=True)
class Parquet(FilesSource):
    """Parquet files."""

    cursors: Cursors = field(default_factory=Cursors, compare=False, repr=False)
    kind: str = "parquet"

    @property
    def holds_the_gil(self) -> bool:
        return False

    def plan(self, limit_rows: int | None) -> Plan:
        inputs = find_files(self.root, SUFFIXES)
        footers: list[Footer] = []
        items: list[Item] = []
        rejected = None
        left = limit_rows
        for file in inputs.files:
            if left == 0:
                break
            try:
                footer = read_footer(inputs.folder, file, self.wanted)
            except (pa.ArrowException, OSError) as error:
                reason = damage(error)
                items.append(Item(file.size_bytes, file.name, ("", 0, 0, 0, 0), rows=0))
                rejected = rejected or Rejected(file.name, "", reason)
                continue
            footers.append(footer)
            new = items_of(footer, self.item_bytes, left)
            items += new
            left = None if left is None else left - sum(item.rows for item in new)
        if not footers and rejected is not None:
            raise rejected.error(inputs.folder)
        rows = sum(item.rows for item in items)
        if rows == 0:
            raise ConfigError(f"{self.root}: holds no rows.")
        unified = unified_schema(inputs.folder, footers)
        types, metadata = found_columns(inputs, footers, unified, self.wanted)
        schema = self.wanted.schema(types)
        self.require_types_fit(schema, unified)
        return Plan(
            schema=schema,
            items=items,
            metadata=metadata,
            seen=f"{count_text(rows, 'row')} in {count_text(len(inputs.files), 'Parquet file')}",
            notes=inputs.notes,
            rejected=rejected,
        )

    def require_types_fit(self, schema: Schema, unified: pa.Schema) -> None:
        """ConfigError where a type of --schema is one that no value of the column can be."""
        sources = [self.wanted.source_name(name) for name in schema.names]
        nothing = pa.RecordBatch.from_pylist([], schema=unified)
        SampleEncoder(schema).encode_batch(conformed(schema, sources, nothing))

    def batches(self, schema: Schema, items: Sequence[Item]) -> Iterator[Rows | Rejected]:
        for run in runs(items):
            yield from self.read_run(schema, run)

    def read_run(self, schema: Schema, run: Sequence[Item]) -> Iterator[Rows | Rejected]:
        """Items that follow each other in one row group."""
        name, path = run[0].name, self.folder / run[0].name
        digest, group, start, _, batch_rows = run[0].values
        stop = run[-1].values[3]
        assert isinstance(group, int)
        assert isinstance(start, int)
        assert isinstance(stop, int)
        assert isinstance(batch_rows, int)
        sources = tuple(self.wanted.source_name(column) for column in schema.names)
        try:
            cursor = self.cursors.take(GroupKey(path, digest, group, sources, batch_rows), start)
        except (pa.ArrowException, OSError) as error:
            yield Rejected(name, "", damage(error))
            return
        with ExitStack() as stack:
            stack.callback(cursor.close)
            require_unchanged(path, digest)
            while cursor.row < stop:
                row = cursor.row
                try:
                    batch = cursor.next()
                except (pa.ArrowException, OSError, StopIteration) as error:
                    lost = f"rows {cursor.first_row + max(row, start):,} to {cursor.first_row + stop - 1:,}"
                    yield Rejected(name, lost, damage(error))
                    return
                first, last = max(start - row, 0), min(stop - row, batch.num_rows)
                if first < last:
                    rows = conformed(schema, sources, batch.slice(first, last - first))
                    yield Rows(rows, partial(place_of, name, cursor.first_row + row + first))
            stack.pop_all()
            self.cursors.leave(cursor)


def place_of(name: str, first_row: int, row: int) -> Place:
    """The row of a file."""
    return Place(name, f"row {first_row + row:,}")


def damage(error: pa.ArrowException | OSError | StopIteration) -> str:
    """What is wrong with the content. An OSError with a number is the system's, and goes on."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    what = "it ends before its last row" if isinstance(error, StopIteration) else str(error).strip()
    return f"is no whole Parquet file: {what}"


def runs(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Items that continue each other, together."""
    begin = 0
    for at in range(1, len(items) + 1):
        if at == len(items) or not continues(items[at - 1], items[at]):
            yield items[begin:at]
            begin = at


def continues(item: Item, following: Item) -> bool:
    """Whether the second is the next slice of the same row group."""
    return item.name == following.name and item.values[1] == following.values[1]


def items_of(footer: Footer, item_bytes: int, limit_rows: int | None) -> list[Item]:
    """The slices of a file, at most `limit_rows` rows."""
    items: list[Item] = []
    left = sum(footer.rows) if limit_rows is None else limit_rows
    for group, (rows, size_bytes) in enumerate(zip(footer.rows, footer.bytes, strict=True)):
        row_bytes = max(size_bytes // max(rows, 1), 1)
        batch_rows = min(max(item_bytes // BATCHES_PER_ITEM // row_bytes, 1), BATCH_ROWS_MAX)
        step = batch_rows * min(max(item_bytes // (row_bytes * batch_rows), 1), BATCHES_PER_ITEM)
        for start in range(0, min(rows, left), step):
            stop = min(start + step, rows, left)
            values = (footer.digest, group, start, stop, batch_rows)
            items.append(Item(row_bytes * (stop - start), footer.file.name, values, stop - start))
        left -= min(rows, left)
    return items


# --- what the files say ---


def read_footer(folder: Path, file: InputFile, wanted: Wanted) -> Footer:
    """The footer of one file. ArrowException or OSError where it is damaged."""
    path = folder / file.name
    with open_file(path) as opened:
        metadata, schema = opened.metadata, opened.schema_arrow
        groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
        return Footer(
            file=file,
            digest=footer_digest(path),
            rows=[group.num_rows for group in groups],
            bytes=[group_bytes(schema, group, wanted) for group in groups],
            schema=schema,
            nullable=nullable_columns(schema, groups),
        )


def group_bytes(schema: pa.Schema, group: pq.RowGroupMetaData, wanted: Wanted) -> int:
    """Bytes of the wanted columns of a row group, decompressed."""
    leaves = [group.column(at) for at in range(group.num_columns)]
    return sum(
        leaf.total_uncompressed_size
        for leaf in leaves
        if wanted.columns is None or owner(leaf.path_in_schema, schema.names) in wanted.columns
    )


def footer_digest(path: Path) -> str:
    """A hash of the footer."""
    with path.open("rb") as file:
        size_bytes = file.seek(0, 2)
        file.seek(max(size_bytes - 8, 0))
        length = int.from_bytes(file.read(4), "little") + 8
        file.seek(max(size_bytes - length, 0))
        return xxhash.xxh3_64_hexdigest(file.read(length))


def require_unchanged(path: Path, digest: object) -> None:
    """ConfigError where the file is not the one that was planned."""
    if digest != footer_digest(path):
        raise ConfigError(f"{path}: has changed since it was scanned. Convert when nothing writes to it.")


def nullable_columns(schema: pa.Schema, groups: Sequence[pq.RowGroupMetaData]) -> dict[str, bool]:
    """Which columns may hold nulls: those that are declared so, unless the statistics of all row groups say
    that there is none.
    """
    nullable = {column.name: False for column in schema}
    declared = {column.name: column.nullable for column in schema}
    for group in groups:
        for at in range(group.num_columns):
            leaf = group.column(at)
            name = owner(leaf.path_in_schema, nullable)
            if declared[name] and not nullable[name]:
                statistics = leaf.statistics
                known = statistics is not None and statistics.has_null_count
                nullable[name] = not (known and statistics.null_count == 0)
    return nullable


def owner(leaf_path: str, names: Collection[str]) -> str:
    """The column that a leaf belongs to; names may have dots."""
    name = leaf_path
    while name not in names:
        name = name.rpartition(".")[0]
    return name


def found_columns(
    inputs: InputFiles, footers: Sequence[Footer], schema: pa.Schema, wanted: Wanted
) -> tuple[dict[str, ColumnType], dict[str, object]]:
    """The types of the columns of all files together, and the metadata of the dataset."""
    features = hugging_face_features(footers[0].schema)
    chosen = set(wanted.source_names(schema.names).values())
    types: dict[str, ColumnType] = {}
    arrow_types: dict[str, str] = {}
    for column in schema:
        nullable = any(footer.nullable.get(column.name, True) for footer in footers)
        if column.name not in chosen or wanted.given(wanted.new_name(column.name)) is not None:
            types[column.name] = Bytes(nullable=nullable)  # nobody asks what it would be
            continue
        feature = features.get(column.name)
        images = (
            feature.get("_type") == "Image"
            if isinstance(feature, Mapping)
            else is_binary(column.type) and holds_images(inputs.folder, footers, column.name)
        )
        types[column.name] = found_type(column, nullable=nullable, image=images)
        if pa.types.is_temporal(column.type):
            arrow_types[wanted.new_name(column.name)] = str(column.type)
    metadata: dict[str, object] = {"arrow_types": arrow_types} if arrow_types else {}
    return types, metadata | class_names(features, chosen)


def unified_schema(folder: Path, footers: Sequence[Footer]) -> pa.Schema:
    """One schema for all files. ConfigError names the first file that does not fit those before it."""
    schema = plain_schema(folder, footers[0])
    for footer in footers[1:]:
        try:
            following = plain_schema(folder, footer)
            require_same_units(schema, following)
            schema = pa.unify_schemas([schema, following], promote_options="permissive")
        except (pa.ArrowException, ConfigError) as error:
            raise ConfigError(
                f"{folder / footer.file.name}: has other columns than the files before it: {error}. Convert "
                "them apart, or leave the column out with --columns."
            ) from error
    return schema


def require_same_units(schema: pa.Schema, following: pa.Schema) -> None:
    """Times are kept as the numbers that they are stored as: these must mean the same in all files."""
    for column in following:
        before = schema.field(column.name).type if column.name in schema.names else column.type
        if column.type != before and (pa.types.is_temporal(column.type) or pa.types.is_temporal(before)):
            raise ConfigError(f"{column.name!r} is {column.type}, and was {before}")


def plain_schema(folder: Path, footer: Footer) -> pa.Schema:
    """The columns of one file without dictionaries, extensions and metadata."""
    names = footer.schema.names
    if len(set(names)) < len(names):
        raise ConfigError(f"{folder / footer.file.name}: has two columns of one name: {sorted(names)}.")
    return pa.schema([pa.field(column.name, plain_type(column.type)) for column in footer.schema])


def holds_images(folder: Path, footers: Sequence[Footer], name: str) -> bool:
    """Whether the first value of a column begins as an image does."""
    for footer in footers:
        if name not in footer.schema.names:
            continue
        try:
            with open_file(folder / footer.file.name) as file:
                for content in first_values(file, name):
                    if content is not None:
                        return is_image(content)
        except (pa.ArrowException, OSError) as error:
            damage(error)  # said when it is read
    return False


def first_values(file: pq.ParquetFile, name: str) -> Iterator[bytes | None]:
    """The first values of a column of bytes, at most SNIFF_ROWS_MAX."""
    seen = 0
    for batch in file.iter_batches(SNIFF_ROWS, columns=[name], use_threads=False):
        for value in batch.column(0).to_pylist():
            yield value.get("bytes") if isinstance(value, dict) else value
        seen += batch.num_rows
        if seen >= SNIFF_ROWS_MAX:
            return


def hugging_face_features(schema: pa.Schema) -> dict[str, Any]:
    """What the `datasets` library wrote about columns; empty where it wrote nothing."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def class_names(features: Mapping[str, Any], chosen: set[str]) -> dict[str, object]:
    """The names of the classes where exactly one column has some."""
    classes = [
        feature["names"]
        for name, feature in features.items()
        if name in chosen
        and isinstance(feature, Mapping)
        and feature.get("_type") == "ClassLabel"
        and "names" in feature
    ]
    return {"classes": classes[0]} if len(classes) == 1 and classes[0] else {}


def conformed(schema: Schema, source_names: Sequence[str], batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with the dataset's names, each column of an Arrow type that encodes into its own."""
    arrays = [
        fit(batch.column(source), schema[name])
        if source in batch.schema.names
        else pa.nulls(batch.num_rows, schema[name].arrow_type)
        for name, source in zip(schema.names, source_names, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, names=schema.names)
