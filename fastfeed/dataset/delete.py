"""Deleting rows: a snapshot whose bitmap leaves them out. No payload is read or written.

Rows are numbered as in the snapshot that the caller names or opened. Where other writers have committed since, the same
samples are deleted from the newest snapshot, as long as it still begins with the same shards.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from fastfeed import __version__
from fastfeed._native.selection import Selection
from fastfeed.dataset.commit import Next, commit_content, existing_content
from fastfeed.dataset.content import keeping
from fastfeed.dataset.dataset import Dataset, as_dataset
from fastfeed.dataset.folder import read_manifest
from fastfeed.dataset.manifest import Manifest
from fastfeed.dataset.present import all_bits, clear_rows
from fastfeed.dataset.views import checked_rows
from fastfeed.errors import CommitConflictError, ConfigError
from fastfeed.storage.location import storage_to_write


def delete(
    dataset: Dataset | str | os.PathLike[str], rows: Sequence[int] | npt.ArrayLike | Selection | str
) -> int:
    """Commit a snapshot without `rows` of `dataset` (a Dataset or a place: its newest snapshot); return its number.

    rows: numbers (from the end where negative), a Selection over len(dataset) rows, or an expression as `ds.filter`
    takes it. The rows after them move up; older snapshots still have them. Where no row is meant, nothing is committed.
    CommitConflictError: meanwhile another writer has replaced or removed shards, so the numbers mean nothing any more.
    """
    of = as_dataset(dataset)
    if of.window is not None:
        raise ConfigError(f"{of!r} is a view of windows: delete documents of the dataset itself.")
    physical = _physical(of, rows)
    if not (physical[1:] > physical[:-1]).all():  # a million rows take numpy 3 s to make unique
        physical = np.unique(physical)
    if len(physical) == 0:
        return of.snapshot
    storage = storage_to_write(of.url)
    base = of.opened.manifest

    def make(newest: int) -> Next:
        manifest = read_manifest(storage, newest)
        _require_begins_with(storage.url, manifest, base)
        content = existing_content(storage, manifest)
        bits = all_bits(content.rows) if content.bits is None else content.bits
        return Next(manifest.schema, keeping(content, clear_rows(bits, physical)), manifest)

    provenance = {
        "tool": f"fastfeed {__version__}",
        "command": "delete",
        "rows": len(physical),
        **({"filter": rows} if isinstance(rows, str) else {}),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with closing(storage), storage.lock(exclusive=False):
        return commit_content(storage, make, provenance=provenance)


def _physical(dataset: Dataset, rows: Sequence[int] | npt.ArrayLike | Selection | str) -> npt.NDArray[np.int64]:
    """The rows of the shards that are meant."""
    if isinstance(rows, str):
        matching = dataset.filter(rows)
        return matching.physical_rows(np.arange(len(matching)))
    if isinstance(rows, Selection):
        if rows.universe != len(dataset):
            raise ConfigError(f"the selection is over {rows.universe} rows, and {dataset!r} has {len(dataset)}.")
        return dataset.physical_rows(rows.rows_at(np.arange(len(rows))))
    return dataset.physical_rows(checked_rows(rows, len(dataset), dataset))


def _require_begins_with(url: str, manifest: Manifest, base: Manifest) -> None:
    if manifest.snapshot == base.snapshot:
        return
    count = len(base.shards)
    if not np.array_equal(manifest.shards.uids[:count], base.shards.uids):
        raise CommitConflictError(
            f"{url}: snapshot {manifest.snapshot} has other shards than snapshot {base.snapshot}, whose rows were to "
            "be deleted. Nothing was committed; open the newest snapshot and delete from that."
        )
