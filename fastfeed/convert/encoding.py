"""From a source's rows to frames: the one place that decides what a bad sample means.

Images are checked, and shrunk where that is asked for; then the batch is encoded as a whole. Only where that
fails are its rows encoded one by one, to find those at fault: a good batch costs nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from fastfeed.convert.source import Item, Rejected, Rows, Source
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.encode import EncodedRows, SampleEncoder
from fastfeed.format.image_file import CHECKS
from fastfeed.format.schema import Kind

# What --on-error may be.
ON_ERROR = ("stop", "skip")
# A file's bytes in, the bytes to keep out; CorruptDataError where it is damaged.
Keep = Callable[[memoryview], memoryview | bytes]


def encoded_pieces(
    source: Source, items: Sequence[Item], encoder: SampleEncoder, *, check: str, on_error: str
) -> Iterator[EncodedRows | Rejected]:
    """The samples of `items`, encoded. `on_error="stop"`: the first bad one is raised."""
    for piece in source.batches(encoder.schema, items):
        for result in [piece] if isinstance(piece, Rejected) else encode_rows(piece, encoder, check):
            if isinstance(result, Rejected) and on_error == "stop":
                raise result.error(source.folder)
            yield result


def encode_rows(rows: Rows, encoder: SampleEncoder, check: str) -> Iterator[EncodedRows | Rejected]:
    """Encode one batch; bad samples come before what is left of it."""
    rejected: dict[int, str] = {}
    for name, column in encoder.schema.items():
        if column.kind is Kind.IMAGE and name in rows.batch.schema.names:
            rejected |= damaged_images(rows.batch.column(name), check)
    batch = without(rows.batch, rejected)
    try:
        whole = encoder.encode_batch(batch)
    except (ConfigError, CorruptDataError) as error:
        rejected |= unfit_rows(rows.batch, encoder, rejected.keys())
        if len(rejected) == rows.batch.num_rows - batch.num_rows:
            raise  # no row is at fault, but all of them are together
        del error
        whole = encoder.encode_batch(without(rows.batch, rejected))
    for row, why in sorted(rejected.items()):
        yield Rejected(*rows.place(row), why)
    if whole.rows:
        yield whole


def without(batch: pa.RecordBatch, rejected: Iterable[int]) -> pa.RecordBatch:
    """`batch` without some of its rows."""
    gone = list(rejected)
    if not gone:
        return batch
    keep = np.ones(batch.num_rows, dtype=bool)
    keep[gone] = False
    return batch.filter(pa.array(keep))


def unfit_rows(batch: pa.RecordBatch, encoder: SampleEncoder, known: Iterable[int]) -> dict[int, str]:
    """Rows that do not encode, and why; those that are `known` are not looked at."""
    found = {}
    skip = set(known)
    for row in range(batch.num_rows):
        if row in skip:
            continue
        try:
            encoder.encode_batch(batch.slice(row, 1))
        except (ConfigError, CorruptDataError) as error:
            found[row] = str(error).replace(", row 0 of the batch", "").replace(", value 0 of the batch", "")
    return found


def damaged_images(array: pa.Array, check: str) -> dict[int, str]:
    """Rows of an image column whose files are damaged, and how."""
    found = {}
    look = CHECKS[check]
    for row, view in enumerate(views_of(array)):
        if view is None:
            continue
        try:
            look(view)
        except CorruptDataError as error:
            found[row] = str(error)
    return found


def views_of(array: pa.Array) -> Iterator[memoryview | None]:
    """The values of a binary array, without copies; None where null."""
    if not pa.types.is_large_binary(array.type):
        array = array.cast(pa.large_binary())
    _, offsets_buffer, data = array.buffers()
    if len(array) == 0:
        return
    offsets = np.frombuffer(offsets_buffer, np.int64, len(array) + 1, array.offset * 8).tolist()
    view = memoryview(b"") if data is None else memoryview(data).cast("B")
    present = array.is_valid().to_pylist() if array.null_count else None
    for row, (start, stop) in enumerate(pairwise(offsets)):
        yield view[start:stop] if present is None or present[row] else None
