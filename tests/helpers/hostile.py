"""Manifests that say what they should not: a good one, changed in one place and sealed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from fastfeed.format.arrow_tail import open_sealed, seal


def altered(
    manifest: bytes,
    columns: Mapping[str, Callable[[Any], Any]] | None = None,
    texts: Mapping[str, str | None] | None = None,
) -> bytes:
    """`manifest` with columns mapped (Arrow array -> Arrow array) and schema metadata set (None removes)."""
    batch = pa.ipc.open_file(open_sealed(manifest, "manifest")).get_batch(0)
    metadata = {key.decode(): value.decode() for key, value in batch.schema.metadata.items()}
    for key, value in (texts or {}).items():
        if value is None:
            del metadata[key]
        else:
            metadata[key] = value
    arrays = {name: batch.column(name) for name in batch.schema.names}
    for name, change in (columns or {}).items():
        arrays[name] = change(arrays[name])
    changed = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
    return written([changed.replace_schema_metadata(metadata)])


def written(batches: list[pa.RecordBatch], **options: Any) -> bytes:
    """A sealed Arrow file of these batches."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batches[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return seal(sink.getvalue().to_pybytes())


def with_value(value: int, at: int = 0) -> Callable[[Any], Any]:
    """A change that puts `value` at row `at`."""

    def change(array: Any) -> Any:
        values = array.to_pylist()
        values[at] = value
        return pa.array(values, array.type)

    return change
