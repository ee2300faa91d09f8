"""The jsonl source: one JSON object a line; a file, a folder of them, or a brace pattern; plain, .gz or .zst.

Every line is read twice: once to find the types (json_types.py), once to convert. An item is a run of whole
lines of about 4 MiB; a compressed file is one item. Empty lines are skipped, a byte order mark and Windows'
line ends are no harm. NaN and Infinity are taken as numbers, as Python writes them; a number too large for a
float64, a key that comes twice and a line that is no object are broken lines.

Python's own parser, per line: 120 MB/s a process. pyarrow's takes 210, but makes times of text, loses the
text of nested values, and fails whole blocks where one line is at fault.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from json.scanner import make_scanner
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from fastfeed.convert.files import InputFile, find_files
from fastfeed.convert.files_source import FilesSource
from fastfeed.convert.json_types import JsonColumn
from fastfeed.convert.source import Item, Place, Plan, Rejected, Rows
from fastfeed.convert.streams import ByteStream, codec_of, open_stream
from fastfeed.convert.wanted import Wanted
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.schema import Bytes, ColumnType, Kind, Schema
from fastfeed.format.wording import count_text

# Suffix of the file -> how it is compressed.
CODECS = {
    f"{plain}{packed}": codec
    for plain in (".jsonl", ".ndjson")
    for packed, codec in (("", ""), (".gz", "gzip"), (".zst", "zstd"))
}
SUFFIXES = tuple(CODECS)
# A line is in memory as a whole, three times: its bytes, its text, its values.
LINE_BYTES_MAX = 64 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class Jsonl(FilesSource):
    """Files of JSON lines."""

    kind: str = "jsonl"

    @property
    def holds_the_gil(self) -> bool:
        return True

    def plan(self, limit_rows: int | None) -> Plan:
        inputs = find_files(self.root, SUFFIXES)
        scan = Scan(limit_rows, self.item_bytes)
        for file in inputs.files:
            if scan.left != 0:
                scan.add(inputs.folder, file)
        if not scan.columns:
            if scan.rejected is not None:
                raise scan.rejected.error(inputs.folder)
            raise ConfigError(f"{self.root}: holds no JSON objects with columns.")
        return Plan(
            schema=self.wanted.schema(scan.types(self.wanted)),
            items=scan.items,
            seen=f"{count_text(scan.rows, 'line')} in {count_text(len(inputs.files), 'JSONL file')}",
            notes=inputs.notes,
            rejected=scan.rejected,
        )

    def batches(self, schema: Schema, items: Sequence[Item]) -> Iterator[Rows | Rejected]:
        readers = [
            (name, self.wanted.source_name(name), self.converter_of(name, column)) for name, column in schema.items()
        ]
        for item in items:
            yield from self.read_item(readers, item)

    def converter_of(self, name: str, column: ColumnType) -> Callable[[Any], Any] | None:
        """What makes the value of a column of the JSON one; None where they are the same."""
        if column.kind in (Kind.BYTES, Kind.IMAGE):
            return decode_base64
        if column.kind is Kind.ARRAY and self.wanted.given(name) is None:
            # The scan has seen that all of them fit, so the encoder need not look at the items again: 3 µs a
            # list in the place of 17.
            return partial(np.array, dtype=column.item_type)
        return None

    def read_item(self, readers: Sequence[ColumnReader], item: Item) -> Iterator[Rows | Rejected]:
        """The lines of one item."""
        begin, stop, line, digest = item.values
        assert isinstance(begin, int)
        assert stop is None or isinstance(stop, int)
        assert isinstance(line, int)
        seen = xxhash.xxh3_64()
        try:
            with closing(open_stream(self.folder / item.name, codec_of(item.name, CODECS), begin)) as stream:
                for block in line_blocks(stream, self.item_bytes, None if stop is None else stop - begin):
                    seen.update(block)
                    good: list[dict[str, Any]] = []
                    lines: list[int] = []
                    for number, text in numbered(block, line, first=begin == 0 and line == 1):
                        try:
                            good.append(sample_of(text, readers))
                            lines.append(number)
                        except (ValueError, RecursionError, OverflowError) as error:
                            yield Rejected(item.name, f"line {number:,}", reason(error))
                    if good:
                        yield Rows(good, partial(place_of, item.name, lines))
                    line += block.count(b"\n")
        except CorruptDataError as error:
            yield Rejected(item.name, "", str(error))
            return
        if stop is None or seen.hexdigest() != digest:
            raise ConfigError(
                f"{self.folder / item.name}: has changed since it was scanned. Convert when nothing writes to it."
            )


# (name in the dataset, key in the lines, what makes the value of the JSON one).
ColumnReader = tuple[str, str, Callable[[Any], Any] | None]


def place_of(name: str, lines: Sequence[int], row: int) -> Place:
    """The line of a file."""
    return Place(name, f"line {lines[row]:,}")


def line_blocks(stream: ByteStream, block_bytes: int, size_bytes: int | None = None) -> Iterator[bytes]:
    """Whole lines, about `block_bytes` at a time, of at most the first `size_bytes`. CorruptDataError where a line
    is too long.
    """
    rest = b""
    left = size_bytes
    while part := stream.read(block_bytes if left is None else min(block_bytes, left)):
        left = None if left is None else left - len(part)
        whole = part.rfind(b"\n") + 1
        if whole:
            yield rest + part[:whole]
            rest = part[whole:]
        else:
            rest += part
        if len(rest) > LINE_BYTES_MAX:
            raise CorruptDataError(f"has a line of more than {LINE_BYTES_MAX:,} bytes. Is it one object a line?")
    if rest:
        yield rest


def numbered(block: bytes, first_line: int, *, first: bool) -> Iterator[tuple[int, bytes]]:
    """(number, line) of those that are not empty. `first`: the block opens its file."""
    if first:
        block = block.removeprefix(BYTE_ORDER_MARK)
    for number, line in enumerate(block.split(b"\n"), start=first_line):
        if line and not line.isspace():
            yield number, line


# --- one line ---


def object_of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. ValueError where a key comes twice: which one was meant, nobody knows."""
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"names the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return made


def finite_float(text: str) -> float:
    """A number. ValueError where it is too large."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"has the number {text[:40]}, which no float64 holds")
    return number


DECODER = json.JSONDecoder(object_pairs_hook=object_of_pairs, parse_float=finite_float)
SCAN = make_scanner(DECODER)  # type: ignore[arg-type]  # it takes a decoder, whatever typeshed says


def parse_line(line: bytes) -> dict[str, Any]:
    """The object of a line. ValueError or RecursionError says why it is none."""
    text = line.decode().strip(" \t\r\n")
    try:
        # What decode() does, without the two regular expressions for white space, which take a third of its time.
        value, end = SCAN(text, 0)
    except StopIteration:
        value, end = None, -1
    if end != len(text):
        DECODER.decode(text)  # says what is wrong
    if type(value) is not dict:
        raise ValueError(f"is not an object, but {line.strip()[:40].decode(errors='replace')!r}")
    return value


def sample_of(line: bytes, readers: Sequence[ColumnReader]) -> dict[str, Any]:
    """The sample of a line; None where a key is absent."""
    get = parse_line(line).get
    sample = {}
    for name, key, convert in readers:
        value = get(key)
        sample[name] = value if convert is None or value is None else convert(value)
    return sample


def decode_base64(value: Any) -> bytes:
    """What JSON keeps bytes as. ValueError where it is something else."""
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, binascii.Error) as error:
        raise ValueError(f"has no base64 in a column of bytes: {error}") from error


def reason(error: ValueError | RecursionError | OverflowError) -> str:
    """What is wrong with a line, in few words."""
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON: {error.msg} at character {error.pos + 1:,}"
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8: {error.reason} at byte {error.start + 1:,}"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, OverflowError):
        return "has a whole number in a list of fractions that no float64 holds"
    return str(error)


# --- the scan ---


class Scan:
    """What a walk over all lines finds."""

    def __init__(self, limit_rows: int | None, item_bytes: int) -> None:
        self._item_bytes = item_bytes
        self.left = limit_rows  # lines that may still come; None: any number
        self.items: list[Item] = []
        self.rows = 0  # lines that are not empty
        self.good = 0  # those that are objects
        self.columns: dict[str, JsonColumn] = {}
        self.rejected: Rejected | None = None

    def types(self, wanted: Wanted) -> dict[str, ColumnType]:
        """The types of all columns, but of those that nobody asked for and those whose type is given."""
        chosen = set(wanted.source_names(list(self.columns)).values())
        types: dict[str, ColumnType] = {}
        for name, column in self.columns.items():
            nullable = column.present < self.good
            given = wanted.given(wanted.new_name(name)) is not None
            asked = name in chosen and not given
            types[name] = column.column(name, nullable=nullable) if asked else Bytes(nullable=nullable)
        return types

    def add(self, folder: Path, file: InputFile) -> None:
        """Walk over one file."""
        codec = codec_of(file.name, CODECS)
        begin, line = 0, 1
        parts: list[Item] = []
        seen = xxhash.xxh3_64()
        try:
            with closing(open_stream(folder / file.name, codec, 0)) as stream:
                for block in line_blocks(stream, self._item_bytes):
                    used, rows = self._add_block(file, block, line, first=begin == 0)
                    seen.update(block[:used])
                    digest = seen.hexdigest() if codec else xxhash.xxh3_64_hexdigest(block[:used])
                    parts.append(Item(used, file.name, (begin, begin + used, line, digest), rows))
                    begin, line = begin + used, line + block[:used].count(b"\n")
                    if self.left == 0:
                        break
        except CorruptDataError as error:
            self._reject(Rejected(file.name, "", str(error)))
            parts.append(Item(0, file.name, (begin, None, line, seen.hexdigest()), 0))
        if codec and parts:
            parts = [whole_file(parts)]
        self.items += [part for part in parts if part.rows or part.values[1] is None]

    def _add_block(self, file: InputFile, block: bytes, first_line: int, *, first: bool) -> tuple[int, int]:
        """Look at the lines of a block, up to the limit; return the bytes used, and the lines that count."""
        rows = 0
        for number, text in numbered(block, first_line, first=first):
            if self.left == 0:
                block = b"".join(line + b"\n" for line in block.split(b"\n")[: number - first_line])
                break
            self.left = None if self.left is None else self.left - 1
            rows += 1
            try:
                self._add_sample(parse_line(text), file.name, number)
            except (ValueError, RecursionError) as error:
                self._reject(Rejected(file.name, f"line {number:,}", reason(error)))
        self.rows += rows
        return len(block), rows

    def _add_sample(self, sample: dict[str, Any], file_name: str, line: int) -> None:
        self.good += 1
        columns = self.columns
        for name, value in sample.items():
            if name not in columns:
                columns[name] = JsonColumn()
            columns[name].add(value, file_name, line)

    def _reject(self, rejected: Rejected) -> None:
        self.rejected = self.rejected or rejected


def whole_file(parts: Sequence[Item]) -> Item:
    """One item of all parts of a file that is compressed; the last part knows where it ends, and its hash."""
    _, stop, _, digest = parts[-1].values
    size_bytes, rows = sum(part.size_bytes for part in parts), sum(part.rows for part in parts)
    return Item(size_bytes, parts[0].name, (0, stop, 1, digest), rows)
