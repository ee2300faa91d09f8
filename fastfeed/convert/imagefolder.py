"""The imagefolder source: class folders, or any folder with a label file.

Class folders: the first folder of a path is its class; every visible folder directly in the root is a
class, and `label` is its index in the bytewise sorted names, which are kept in the metadata as `classes`.
Columns `image`, `label`, `path`.

With a label file (labels.py): the table must name every image, and every row an image. Columns `image`,
`label` where the table has one (text labels become indices as above, numbers stay), `path`, then the
table's others.

Rows are in bytewise order of the relative path. Names that begin with a dot are skipped; files of other
kinds are left out and counted in a note. Links are followed.
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fastfeed.convert.files import walk
from fastfeed.convert.labels import LabelTable, read_labels
from fastfeed.convert.source import Item, Place, Plan, Rejected, Rows
from fastfeed.convert.wanted import Wanted
from fastfeed.errors import ConfigError
from fastfeed.format.files import read_whole_files
from fastfeed.format.schema import ColumnType, Image, Scalar, Schema, Text
from fastfeed.format.wording import count_text, few

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
LABEL_FILES = ("labels.csv", "labels.jsonl", "metadata.csv", "metadata.jsonl")
LABEL_COLUMNS = ("label", "class")
# Images of one record batch: enough that a batch costs little beside its bytes, small enough that its
# buffer is used again by the allocator and stays near the caches.
BATCH_BYTES = 1 << 20
# Paths are long: few of them fill a line.
PATHS_SHOWN = 3


@dataclass(frozen=True)
class Found:
    """What a walk over a folder found. Paths are relative, with '/'."""

    images: list[tuple[str, int]]  # (path, bytes), in bytewise order
    folders: list[str]  # visible folders directly in the root, in bytewise order
    others: dict[str, list[str]]  # extension -> paths of files that are no images


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """A folder of images. `labels` is its label file; else one in the root is used, or class folders."""

    root: Path
    labels: Path | None = None
    wanted: Wanted = field(default_factory=Wanted)
    kind: str = "imagefolder"

    @property
    def folder(self) -> Path:
        return self.root

    @property
    def image_size(self) -> int | None:
        return self.wanted.image_size

    @property
    def holds_the_gil(self) -> bool:
        return False

    def options(self) -> dict[str, object]:
        return {"labels": None if self.labels is None else str(self.labels.resolve())} | self.wanted.options()

    def plan(self, limit_rows: int | None) -> Plan:
        found = find(self.root)
        if not found.images:
            raise ConfigError(f"{self.root}: has no images ({', '.join(EXTENSIONS)}), at any depth.")
        labels = self.labels or label_file_in(self.root)
        plan = class_plan(self.root, found) if labels is None else table_plan(self.root, found, read_labels(labels))
        return narrowed(plan, self.wanted, limit_rows)

    def batches(self, schema: Schema, items: Sequence[Item]) -> Iterator[Rows | Rejected]:
        for group in groups(items):
            values: Iterator[Sequence[object]] = zip(*(item.values for item in group), strict=True)
            columns = [
                self.read_images(group)
                if self.wanted.source_name(name) == "image"
                else typed_array(next(values), column)
                for name, column in schema.items()
            ]
            yield Rows(pa.RecordBatch.from_arrays(columns, names=schema.names), partial(place_of, group))

    def read_images(self, items: Sequence[Item]) -> pa.Array:
        """The files of `items`, one after the other in one buffer."""
        offsets = np.zeros(len(items) + 1, dtype=np.int64)
        np.cumsum([item.size_bytes for item in items], out=offsets[1:])
        # One byte more than the plan says, so that a file that has grown shows itself.
        buffer = pa.allocate_buffer(int(offsets[-1]) + 1)
        odd = read_whole_files([os.fsencode(f"{self.root}/{item.name}") for item in items], offsets, buffer)
        if odd is not None:
            raise changed(self.root, items[odd[0]], odd[1])
        return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(items), [None, pa.py_buffer(offsets), buffer])


def typed_array(values: Sequence[object], column: ColumnType) -> pa.Array:
    """Values of labels; whether they fit the column, the encoder says."""
    array = pa.array(values)
    return pa.nulls(len(array), column.arrow_type) if pa.types.is_null(array.type) else array


def place_of(items: Sequence[Item], row: int) -> Place:
    """The file of a row."""
    return Place(items[row].name)


def changed(root: Path, item: Item, size_bytes: int) -> ConfigError:
    """What to say of a file that has another size than when it was scanned."""
    return ConfigError(
        f"{root}/{item.name}: had {item.size_bytes} bytes when the folder was scanned and has "
        f"{'more' if size_bytes > item.size_bytes else size_bytes} now. Convert when nothing writes to the folder."
    )


def groups(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Runs of items of about BATCH_BYTES, at least one item each."""
    start, size_bytes = 0, 0
    for at, item in enumerate(items):
        size_bytes += item.size_bytes
        if size_bytes >= BATCH_BYTES:
            yield items[start : at + 1]
            start, size_bytes = at + 1, 0
    if start < len(items):
        yield items[start:]


def narrowed(plan: Plan, wanted: Wanted, limit_rows: int | None) -> Plan:
    """The plan with the columns and as many rows as the user wants."""
    schema = wanted.schema(plan.schema)
    others = [name for name in plan.schema.names if name != "image"]
    kept = [others.index(name) for name in map(wanted.source_name, schema.names) if name != "image"]
    items = plan.items[:limit_rows]
    if schema != plan.schema:
        items = [item._replace(values=tuple(item.values[at] for at in kept)) for item in items]
    return dataclasses.replace(plan, schema=schema, items=items)


def class_plan(root: Path, found: Found) -> Plan:
    """The plan of class folders. ConfigError where an image has no class."""
    loose = next((path for path, _ in found.images if "/" not in path), None)
    if loose is not None:
        what = "and also class folders" if found.folders else "and no class folders"
        raise ConfigError(
            f"{root}: has images directly in it ({loose}), {what}. Put each image into a folder named "
            f"after its class, or say what they are with --labels FILE (or a {LABEL_FILES[0]} there)."
        )
    index = {name: at for at, name in enumerate(found.folders)}
    counts = dict.fromkeys(found.folders, 0)
    items = []
    for path, size_bytes in found.images:
        name = path.partition("/")[0]
        counts[name] += 1
        items.append(Item(size_bytes, path, (index[name], path)))
    empty = [name for name, count in counts.items() if count == 0]
    notes = notes_of_others(found.others)
    if empty:
        notes.append(
            f"{len(empty)} of {len(counts)} class folders hold no images, but keep their index: "
            f"{few(empty, PATHS_SHOWN)}"
        )
    return Plan(
        schema=Schema({"image": Image(), "label": Scalar("int64"), "path": Text()}),
        items=items,
        metadata={"classes": found.folders},
        seen=f"{count_text(len(items), 'image')} in {count_text(len(found.folders), 'class folder')}",
        notes=notes,
    )


def table_plan(root: Path, found: Found, table: LabelTable) -> Plan:
    """The plan of a label file. ConfigError where table and folder do not name the same images."""
    rows = rows_of_files(root, found, table)
    columns, types = dict(table.columns), dict(table.types)
    metadata: dict[str, object] = {}
    label_name = next((name for name in LABEL_COLUMNS if name in columns), None)
    schema: dict[str, ColumnType] = {"image": Image()}
    ordered: list[list[Any]] = []
    if label_name is not None:
        labels, label_type = columns.pop(label_name), types.pop(label_name)
        if isinstance(label_type, Text):
            classes = sorted({label for label in labels if label is not None})
            index = {name: at for at, name in enumerate(classes)}
            labels = [None if label is None else index[label] for label in labels]
            label_type, metadata = Scalar("int64", nullable=label_type.nullable), {"classes": classes}
        schema["label"] = label_type
        ordered.append(labels)
    taken = next((name for name in ("image", "path") if name in columns), None)
    if taken is not None:
        raise ConfigError(
            f"{table.path}: the column {taken!r} has a name that fastfeed gives to a column of its own. Rename it."
        )
    schema["path"] = Text()
    schema.update(types)
    more = list(columns.values())
    items = []
    for path, size_bytes in found.images:
        row = rows[path]
        values = (*(column[row] for column in ordered), path, *(column[row] for column in more))
        items.append(Item(size_bytes, path, values))
    others = without_file(found.others, root, table.path)
    return Plan(
        schema=Schema(schema),
        items=items,
        metadata=metadata,
        seen=f"{len(items):,} images with labels from {table.path.name}",
        notes=notes_of_others(others),
    )


def rows_of_files(root: Path, found: Found, table: LabelTable) -> dict[str, int]:
    """Path -> row of the table. Every image has exactly one."""
    present = {path for path, _ in found.images}
    rows: dict[str, int] = {}
    for row, name in enumerate(table.files):
        path = posixpath.normpath(name)
        if path in rows:
            raise ConfigError(f"{table.path}: rows {rows[path]} and {row} both name {name!r}.")
        if path not in present:
            raise ConfigError(f"{table.path}: row {row} names {name!r}, which is not an image in {root}.")
        rows[path] = row
    missing = sorted(present - rows.keys())
    if missing:
        raise ConfigError(
            f"{table.path}: has no row for {len(missing):,} of {len(present):,} images: "
            f"{few(missing, PATHS_SHOWN)}. Add them, or take the files out of {root}."
        )
    return rows


def label_file_in(root: Path) -> Path | None:
    """The label file that lies in `root`, None where there is none. ConfigError where there are several."""
    present = [name for name in LABEL_FILES if (root / name).is_file()]
    if len(present) > 1:
        raise ConfigError(f"{root}: has {' and '.join(present)}. Say which one to use with --labels FILE.")
    return root / present[0] if present else None


def find(root: Path) -> Found:
    """Everything visible under `root`. OSError where a folder or a link cannot be followed."""
    images: list[tuple[str, int]] = []
    others: dict[str, list[str]] = {}
    for path, entry in walk(root, (".",)):
        extension = os.path.splitext(entry.name)[1].lower()
        if extension in EXTENSIONS:
            images.append((path, regular_size(f"{root}/{path}", entry.stat())))
        else:
            others.setdefault(extension, []).append(path)
    images.sort()  # code points sort as their UTF-8 bytes do
    with os.scandir(root) as entries:
        folders = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return Found(images, sorted(folders), {extension: sorted(others[extension]) for extension in sorted(others)})


def regular_size(path: str, status: os.stat_result) -> int:
    """Bytes of a file. ConfigError where it is something else that has an image's name."""
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path}: is named like an image, but is no regular file. Remove it.")
    return status.st_size


def without_file(others: dict[str, list[str]], root: Path, file: Path) -> dict[str, list[str]]:
    """`others` without `file`, which was used."""
    real = file.resolve()
    kept = {
        extension: [path for path in paths if (root / path).resolve() != real] for extension, paths in others.items()
    }
    return {extension: paths for extension, paths in kept.items() if paths}


def notes_of_others(others: dict[str, list[str]]) -> list[str]:
    """One note for each kind of file that was left out."""
    return [
        f"left out {len(paths):,} {extension or 'extensionless'} file{'s' if len(paths) > 1 else ''}: "
        f"{few(paths, PATHS_SHOWN)}"
        for extension, paths in others.items()
    ]
