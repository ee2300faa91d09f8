"""The webdataset source: one tar, a folder of them, or a brace pattern; plain, .gz or .zst.

A sample is a run of members with one key: the path up to the first dot of the file's name. Columns are
`__key__` and one a suffix, which is all that follows that dot, in lower case; their types are those of
members.py. Members without a suffix or a key, names like __x__, and what is no regular file are left out,
as webdataset leaves them out.

Plain archives are planned by their headers alone, with seeks; an item is a run of samples of about 4 MiB.
Compressed ones must be read as a whole: one item each.

Where an archive is damaged, what follows is lost, and the sample before it too, as it may lack members.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import xxhash

from fastfeed.convert.files import InputFile, find_files
from fastfeed.convert.files_source import FilesSource
from fastfeed.convert.members import HEAD_BYTES, ColumnFinder, reason, value_of
from fastfeed.convert.source import Item, Place, Plan, Rejected, Rows
from fastfeed.convert.streams import codec_of, open_stream
from fastfeed.convert.tar import Member, TarReader
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.schema import VALUE_BYTES_MAX, ColumnType, Schema, Text
from fastfeed.format.wording import count_text

# Suffix of the file -> how it is compressed.
CODECS = {".tar": "", ".tar.gz": "gzip", ".tgz": "gzip", ".tar.zst": "zstd", ".tzst": "zstd"}
SUFFIXES = tuple(CODECS)
KEY = "__key__"
# In an archive that is no dataset, every member may have a suffix of its own.
SUFFIX_COUNT_MAX = 1000
# A header and the head of its member come in one read; what is between them is passed over.
SCAN_BUFFER_BYTES = 4096
SPLIT = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
LEFT_OUT = re.compile(r"__[^/]*__($|/)")


@dataclass
class Sample:
    """One sample of an archive."""

    key: str
    begin: int  # where its first header is in the archive
    end: int = 0  # where the next one's is, or the end mark
    values: dict[str, Any] = field(default_factory=dict)  # suffix -> what the reader of its members returned
    sizes: dict[str, int] = field(default_factory=dict)  # suffix -> bytes
    size_bytes: int = 0
    headers: Any = field(default_factory=xxhash.xxh3_64)  # a hash of all headers
    problem: tuple[str, str] | None = None  # (member, why) of the first member that cannot be used


# Reads what it needs of the current member, whose suffix is given.
ReadMember = Callable[[str, TarReader], Any]


@dataclass(frozen=True, kw_only=True)
class WebDataset(FilesSource):
    """Tar archives of samples."""

    kind: str = "webdataset"

    @property
    def holds_the_gil(self) -> bool:
        return False

    def plan(self, limit_rows: int | None) -> Plan:
        inputs = find_files(self.root, SUFFIXES)
        scan = Scan(limit_rows, self.item_bytes)
        for file in inputs.files:
            if scan.left != 0:
                scan.add(inputs.folder, file)
        if scan.samples == 0:
            if scan.rejected is not None:
                raise scan.rejected.error(inputs.folder)
            raise ConfigError(f"{self.root}: holds no samples: members with names like 000001.jpg.")
        left_out = [f"left out {scan.others:,} members that belong to no sample"] if scan.others else []
        return Plan(
            schema=self.wanted.schema(scan.columns()),
            items=scan.items,
            seen=f"{count_text(scan.samples, 'sample')} in {count_text(len(inputs.files), 'tar file')}",
            notes=[*inputs.notes, *left_out],
            rejected=scan.rejected,
        )

    def batches(self, schema: Schema, items: Sequence[Item]) -> Iterator[Rows | Rejected]:
        columns = {self.wanted.source_name(name): name for name in schema.names}
        for item in items:
            yield from self.read_item(schema, columns, item)

    def read_item(self, schema: Schema, columns: dict[str, str], item: Item) -> Iterator[Rows | Rejected]:
        """The samples of one item, in batches. `columns`: suffix -> name in the dataset."""
        begin, stop, digest = item.values
        assert isinstance(begin, int)
        assert stop is None or isinstance(stop, int)
        batch = Batch(item.name)
        seen = xxhash.xxh3_64()

        def read_member(suffix: str, reader: TarReader) -> Any:
            name = columns.get(suffix)
            return None if name is None else value_of(reader.read(), schema[name])

        with closing(open_stream(self.folder / item.name, codec_of(item.name, CODECS), begin)) as stream:
            try:
                for sample in samples(TarReader(stream, begin, stop), read_member):
                    seen.update(sample.headers.digest())
                    if sample.problem is not None:
                        yield Rejected(item.name, *sample.problem)
                        continue
                    values = {name: sample.values.get(suffix) for suffix, name in columns.items()}
                    if KEY in columns:
                        values[columns[KEY]] = sample.key
                    batch.add(sample, values)
                    if batch.size_bytes >= self.item_bytes:
                        yield batch.taken()
            except CorruptDataError as error:
                if batch.samples:
                    yield batch.taken()
                yield Rejected(item.name, "", str(error))
                return
        if stop is None or seen.hexdigest() != digest:
            raise ConfigError(
                f"{self.folder / item.name}: has changed since it was scanned. Convert when nothing writes to it."
            )
        if batch.samples:
            yield batch.taken()


class Batch:
    """Samples that wait to be given out together."""

    def __init__(self, file_name: str) -> None:
        self.samples: list[dict[str, Any]] = []
        self.size_bytes = 0
        self._keys: list[str] = []
        self._file_name = file_name

    def add(self, sample: Sample, values: dict[str, Any]) -> None:
        """One more."""
        self.samples.append(values)
        self._keys.append(sample.key)
        self.size_bytes += sample.size_bytes

    def taken(self) -> Rows:
        """The samples; none are left."""
        rows = Rows(self.samples, partial(place_of, self._file_name, self._keys))
        self.samples, self._keys, self.size_bytes = [], [], 0
        return rows


def place_of(name: str, keys: Sequence[str], row: int) -> Place:
    """The sample of an archive."""
    return Place(name, f"sample {keys[row]}")


def split_name(name: str) -> tuple[str, str] | None:
    """(key, suffix) of a member; None where it belongs to no sample."""
    found = SPLIT.fullmatch(name)
    if found is None or LEFT_OUT.match(name):
        return None
    return found[1], found[2].lower()


def samples(
    reader: TarReader, read_member: ReadMember, on_other: Callable[[], None] = lambda: None
) -> Iterator[Sample]:
    """The samples of an archive. CorruptDataError where it is damaged: the sample before is not given."""
    current: Sample | None = None
    for member in reader:
        parts = split_name(member.name) if member.is_file else None
        if parts is None:
            on_other()
            continue
        key, suffix = parts
        if current is not None and key != current.key:
            current.end = member.begin
            yield current
            current = None
        if current is None:
            current = Sample(key, member.begin)
        add_member(current, suffix, member, reader, read_member)
    if current is not None:
        current.end = reader.end
        yield current


def add_member(sample: Sample, suffix: str, member: Member, reader: TarReader, read_member: ReadMember) -> None:
    """Read what is needed of a member into its sample; what is wrong with it is the sample's problem."""
    sample.headers.update(member.header)
    sample.size_bytes += member.size_bytes
    sample.sizes[suffix] = member.size_bytes
    if sample.problem is not None:
        return
    where = f"member {member.name}"
    if suffix in sample.values or suffix == KEY:
        sample.problem = (where, f"is a second {suffix!r} of its sample")
    elif member.size_bytes > VALUE_BYTES_MAX:
        sample.problem = (where, f"has {member.size_bytes:,} bytes; a value has at most {VALUE_BYTES_MAX:,}")
    else:
        try:
            sample.values[suffix] = read_member(suffix, reader)
        except (ValueError, RecursionError) as error:
            sample.problem = (where, reason(error))


class Scan:
    """What a walk over the headers of all archives finds."""

    def __init__(self, limit_rows: int | None, item_bytes: int) -> None:
        self._item_bytes = item_bytes
        self.left = limit_rows  # samples that may still come; None: any number
        self.items: list[Item] = []
        self.samples = 0  # without those that have a problem
        self.others = 0  # members that belong to no sample
        self.rejected: Rejected | None = None
        self._finders: dict[str, ColumnFinder] = {}

    def columns(self) -> dict[str, ColumnType]:
        """The columns found: nullable where a sample lacks the member."""
        found: dict[str, ColumnType] = {KEY: Text()}
        for suffix, finder in self._finders.items():
            found[suffix] = finder.column(nullable=finder.count < self.samples)
        return found

    def add(self, folder: Path, file: InputFile) -> None:
        """Walk over one archive."""
        codec = codec_of(file.name, CODECS)
        item = Run(file.name)
        try:
            with closing(open_stream(folder / file.name, codec, 0, SCAN_BUFFER_BYTES)) as stream:
                for sample in samples(TarReader(stream), self._head_of, self._count_other):
                    if self.left == 0:
                        break
                    self.left = None if self.left is None else self.left - 1
                    self._add_sample(file, sample)
                    item.add(sample)
                    if item.size_bytes >= self._item_bytes and not codec:
                        self.items.append(item.taken())
        except CorruptDataError as error:
            self._reject(Rejected(file.name, "", str(error)))
            self.items.append(item.damaged())
        else:
            if item.rows:
                self.items.append(item.taken())

    def _head_of(self, suffix: str, reader: TarReader) -> bytes:
        finder = self._finders.get(suffix) or ColumnFinder(suffix)
        return reader.read(HEAD_BYTES) if finder.needs_head else b""

    def _count_other(self) -> None:
        self.others += 1

    def _reject(self, rejected: Rejected) -> None:
        self.rejected = self.rejected or rejected

    def _add_sample(self, file: InputFile, sample: Sample) -> None:
        if sample.problem is not None:
            self._reject(Rejected(file.name, *sample.problem))
            return
        self.samples += 1
        for suffix, head in sample.values.items():
            if suffix not in self._finders:
                if len(self._finders) == SUFFIX_COUNT_MAX:
                    raise ConfigError(
                        f"{file.name}: has members with more than {SUFFIX_COUNT_MAX} different suffixes, such as "
                        f"{suffix!r}. Is it an archive of samples?"
                    )
                self._finders[suffix] = ColumnFinder(suffix)
            self._finders[suffix].add(head, sample.sizes[suffix])


class Run:
    """Consecutive samples on their way to become an item."""

    def __init__(self, file_name: str) -> None:
        self._file_name = file_name
        self._begin, self._end = 0, 0
        self.size_bytes = 0
        self.rows = 0
        self._digest = xxhash.xxh3_64()

    def add(self, sample: Sample) -> None:
        """One more, which follows those before."""
        self.rows += 1
        self.size_bytes += sample.size_bytes
        self._end = sample.end
        self._digest.update(sample.headers.digest())

    def taken(self) -> Item:
        """The item; the run begins anew after it."""
        item = self._item(self._end, self._digest.hexdigest())
        self._begin = self._end
        self.size_bytes = self.rows = 0
        self._digest = xxhash.xxh3_64()
        return item

    def damaged(self) -> Item:
        """The item, which goes on to the damage after its last sample."""
        return self._item(None, self._digest.hexdigest())

    def _item(self, end: int | None, digest: str) -> Item:
        return Item(self.size_bytes, self._file_name, (self._begin, end, digest), self.rows)
