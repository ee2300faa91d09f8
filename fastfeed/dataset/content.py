"""What a snapshot consists of, apart from its name and history: shards, their index files and dictionaries, and the
rows of them that are there. Appending, merging and deleting are functions from such contents to another.

Pure: values in, values out; files are others' business. Row order is the order of the contents joined, then of shards.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastfeed._native.selection import Selection
from fastfeed.dataset.index import IndexFile
from fastfeed.dataset.manifest import Manifest, ShardColumns
from fastfeed.dataset.present import Bits, all_bits, join_bits, slice_bits
from fastfeed.format.layout import HEADER_BYTES

T = TypeVar("T")

# Columns with one value a shard; a shard's path is not among them.
_VALUE_COLUMNS = tuple(
    field.name for field in fields(ShardColumns) if field.name not in ("path_offsets", "path_data")
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Content:
    """See above. bits: the rows of all shards that are there; None: all of them."""

    shards: ShardColumns
    index_files: Sequence[IndexFile]
    dictionary_sets: Sequence[Mapping[str, bytes]]
    bits: Bits | None = None

    @property
    def rows(self) -> int:
        """Rows of all shards, deleted ones too."""
        return int(self.shards.rows.sum())

    @property
    def tokens(self) -> int:
        return int(self.shards.tokens.sum())

    @property
    def payload_bytes(self) -> int:
        """Bytes of all frames or pages."""
        return int(self.shards.payload_ends.sum()) - HEADER_BYTES * len(self.shards)


def content_of(manifest: Manifest, present: Selection | None) -> Content:
    """The content of a snapshot whose rows that are there are `present` (None: all)."""
    return Content(
        shards=manifest.shards,
        index_files=manifest.index_files,
        dictionary_sets=manifest.dictionary_sets,
        bits=None if present is None else np.frombuffer(present.bits(), np.uint8),
    )


def joined(contents: Sequence[Content]) -> Content:
    """The rows of `contents`, one after the other. Index files and dictionary sets that are the same are named once."""
    index_files, index_numbers = _distinct([each.index_files for each in contents], lambda file: file.name)
    sets, set_numbers = _distinct([each.dictionary_sets for each in contents], _set_key)
    values: dict[str, Any] = {
        name: np.concatenate([getattr(each.shards, name) for each in contents]) for name in _VALUE_COLUMNS
    }
    values["index_file"] = _renumbered([each.shards.index_file for each in contents], index_numbers)
    values["dictionary_set"] = _renumbered([each.shards.dictionary_set for each in contents], set_numbers)
    lengths = np.concatenate([np.diff(each.shards.path_offsets) for each in contents])
    shards = ShardColumns(
        path_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        path_data=np.concatenate([_path_data(each.shards) for each in contents]),
        **values,
    )
    bits = None
    if any(each.bits is not None for each in contents):
        bits = join_bits([(all_bits(each.rows) if each.bits is None else each.bits, each.rows) for each in contents])
    return Content(shards=shards, index_files=index_files, dictionary_sets=sets, bits=bits)


def keeping(content: Content, bits: Bits) -> Content:
    """`content` with only the rows of `bits`. Shards of which none is left are not listed any more, nor is what only
    they need; where every row of the others is there, nothing says so."""
    ends = np.cumsum(content.shards.rows, dtype=np.int64)
    counts = np.diff(Selection.from_bits(bits, content.rows).ranks_of(ends), prepend=0)
    kept = counts > 0
    if not kept.all():
        bits = join_bits([(slice_bits(bits, start, stop), stop - start) for start, stop in _spans(ends, kept)])
        content = _only(content, np.flatnonzero(kept))
    whole = bool((counts[kept] == content.shards.rows).all())
    return Content(
        shards=content.shards,
        index_files=content.index_files,
        dictionary_sets=content.dictionary_sets,
        bits=None if whole else bits,
    )


def elsewhere(content: Content, root: str, new_root: str) -> Content:
    """`content` of a dataset in folder `root`, as one in `new_root` names it: paths are absolute, but for shards that
    lie in `new_root` itself."""
    paths = [
        (path if "://" in path else os.path.join(root, path)).removeprefix(f"{new_root}/").encode()
        for path in content.shards.paths()
    ]
    return Content(
        shards=_with_paths(content.shards, paths),
        index_files=content.index_files,
        dictionary_sets=content.dictionary_sets,
        bits=content.bits,
    )


def _spans(ends: npt.NDArray[np.int64], kept: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The rows of runs of shards that are kept, as (first, behind the last)."""
    edges = np.flatnonzero(np.diff(kept, prepend=False, append=False))
    bounds = np.concatenate([[0], ends])[edges].tolist()
    return list(zip(bounds[::2], bounds[1::2], strict=True))


def _only(content: Content, numbers: npt.NDArray[np.intp]) -> Content:
    """The shards of these numbers, and the index files and dictionary sets that they need. Not the bits."""
    shards = content.shards
    values = {name: getattr(shards, name)[numbers] for name in _VALUE_COLUMNS}
    files, values["index_file"] = np.unique(values["index_file"], return_inverse=True)
    sets, values["dictionary_set"] = np.unique(values["dictionary_set"], return_inverse=True)
    for column in ("index_file", "dictionary_set"):
        values[column] = values[column].astype(np.uint32)
    paths = shards.paths()
    offsets, data = _packed_paths([paths[number].encode() for number in numbers.tolist()])
    return Content(
        shards=ShardColumns(path_offsets=offsets, path_data=data, **values),
        index_files=[content.index_files[number] for number in files],
        dictionary_sets=[content.dictionary_sets[number] for number in sets],
    )


def _with_paths(shards: ShardColumns, paths: Sequence[bytes]) -> ShardColumns:
    offsets, data = _packed_paths(paths)
    values = {name: getattr(shards, name) for name in _VALUE_COLUMNS}
    return ShardColumns(path_offsets=offsets, path_data=data, **values)


def _packed_paths(paths: Sequence[bytes]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    return np.cumsum([0, *map(len, paths)]).astype(np.int32), np.frombuffer(b"".join(paths), np.uint8)


def _path_data(shards: ShardColumns) -> npt.NDArray[np.uint8]:
    """The bytes that the offsets are of, from the first on."""
    return shards.path_data[shards.path_offsets[0] : shards.path_offsets[-1]]


def _distinct(groups: Sequence[Sequence[T]], key: Callable[[T], Hashable]) -> tuple[list[T], list[list[int]]]:
    """(all values of all groups, each once; per group the number of each of its values among them)."""
    numbers: dict[Hashable, int] = {}
    values: list[T] = []
    found = []
    for group in groups:
        for value in group:
            if key(value) not in numbers:
                numbers[key(value)] = len(values)
                values.append(value)
        found.append([numbers[key(value)] for value in group])
    return values, found


def _set_key(group: Mapping[str, bytes]) -> Hashable:
    return tuple(sorted(group.items()))


def _renumbered(columns: Sequence[npt.NDArray[np.uint32]], numbers: Sequence[Sequence[int]]) -> npt.NDArray[np.uint32]:
    return np.concatenate(
        [np.array(group, np.uint32)[column] for column, group in zip(columns, numbers, strict=True)]
    )
