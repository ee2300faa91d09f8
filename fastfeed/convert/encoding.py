"""From a source's samples to frames: the one place that decides what a bad sample means.

Images are checked, and made smaller where that is asked for; then all samples of a batch are encoded at once.
Only where that fails are they encoded one by one, to find those at fault: a good batch costs nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from fastfeed.convert.parquet_types import is_binary
from fastfeed.convert.shrink import shrunken
from fastfeed.convert.source import Item, Rejected, Rows, Samples, Source
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.encode import EncodedRows, SampleEncoder
from fastfeed.format.image_file import CHECKS
from fastfeed.format.schema import Kind

# What --on-error may be.
ON_ERROR = ("stop", "skip")


def encoded_pieces(
    source: Source, items: Sequence[Item], encoder: SampleEncoder, *, check: str, on_error: str
) -> Iterator[EncodedRows | Rejected]:
    """The samples of `items`, encoded. `on_error="stop"`: the first bad one is raised."""
    for piece in source.batches(encoder.schema, items):
        results = [piece] if isinstance(piece, Rejected) else encode_rows(piece, encoder, check, source.image_size)
        for result in results:
            if isinstance(result, Rejected) and on_error == "stop":
                raise result.error(source.folder)
            yield result


def encode_rows(
    rows: Rows, encoder: SampleEncoder, check: str, image_size: int | None
) -> Iterator[EncodedRows | Rejected]:
    """Encode one batch; its bad samples come before the others."""
    samples, rejected = rows.samples, dict[int, str]()
    for name, column in encoder.schema.items():
        if column.kind is Kind.IMAGE:
            samples, damaged = checked_images(samples, name, check, image_size)
            rejected |= damaged
    whole: EncodedRows | None = None
    if len(rejected) < len(samples):
        try:
            whole = encode(without(samples, rejected), encoder)
        except (ConfigError, CorruptDataError):
            unfit = unfit_samples(samples, encoder, rejected)
            if not unfit:
                raise  # no sample is at fault, but all of them are together
            rejected |= unfit
            whole = encode(without(samples, rejected), encoder)
    for row, why in sorted(rejected.items()):
        yield Rejected(*rows.place(row), why)
    if whole is not None and whole.rows:
        yield whole


def encode(samples: Samples, encoder: SampleEncoder) -> EncodedRows:
    """Frames of all samples. ConfigError or CorruptDataError where one does not fit."""
    return encoder.encode_batch(samples) if isinstance(samples, pa.RecordBatch) else encoder.encode_samples(samples)


def without(samples: Samples, rejected: Mapping[int, str]) -> Samples:
    """`samples` without those that are rejected."""
    if not rejected:
        return samples
    keep = [row for row in range(len(samples)) if row not in rejected]
    if isinstance(samples, pa.RecordBatch):
        return samples.take(pa.array(keep, pa.int64()))
    return [samples[row] for row in keep]


def unfit_samples(samples: Samples, encoder: SampleEncoder, known: Mapping[int, str]) -> dict[int, str]:
    """Samples that do not encode, and why; those that are `known` are not looked at."""
    found = {}
    for row in range(len(samples)):
        if row in known:
            continue
        try:
            encode(samples.slice(row, 1) if isinstance(samples, pa.RecordBatch) else [samples[row]], encoder)
        except (ConfigError, CorruptDataError) as error:
            found[row] = str(error).replace(", row 0 of the batch", "").replace(", value 0 of the batch", "")
    return found


# --- images ---


def checked_images(samples: Samples, name: str, check: str, image_size: int | None) -> tuple[Samples, dict[int, str]]:
    """(the samples with an image column as it is kept, rows whose files are damaged and how)."""
    damaged: dict[int, str] = {}
    smaller: dict[int, bytes] = {}
    look = CHECKS[check]
    for row, image in enumerate(images_of(samples, name)):
        if image is None:
            continue
        try:
            look(image)
            small = None if image_size is None else shrunken(image, image_size)
        except CorruptDataError as error:
            damaged[row] = f"column {name!r}: {error}"
            continue
        if small is not None:
            smaller[row] = small
    return (replaced(samples, name, smaller) if smaller else samples), damaged


def images_of(samples: Samples, name: str) -> Iterable[memoryview | bytes | None]:
    """The values of an image column; nothing where it holds other things, which the encoder says."""
    if not isinstance(samples, pa.RecordBatch):
        values = [sample[name] for sample in samples]
        return values if all(value is None or isinstance(value, bytes) for value in values) else []
    array = samples.column(name)
    return views_of(array) if is_binary(array.type) and not pa.types.is_struct(array.type) else []


def replaced(samples: Samples, name: str, values: Mapping[int, bytes]) -> Samples:
    """`samples` with other values in some rows of one column."""
    if isinstance(samples, pa.RecordBatch):
        column = [values.get(row, value) for row, value in enumerate(views_of(samples.column(name)))]
        at = samples.schema.get_field_index(name)
        return samples.set_column(at, name, pa.array(column, pa.large_binary()))
    return [{**sample, name: values[row]} if row in values else sample for row, sample in enumerate(samples)]


def views_of(array: pa.Array) -> Iterator[memoryview | None]:
    """The values of a binary array, without copies where its offsets have 64 bits; None where null."""
    if not pa.types.is_large_binary(array.type):
        array = array.cast(pa.large_binary())
    if len(array) == 0:
        return
    _, offsets_buffer, data = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64, len(array) + 1, array.offset * 8).tolist()
    view = memoryview(b"") if data is None else memoryview(data).cast("B")
    present = array.is_valid().to_pylist() if array.null_count else None
    for row, (start, stop) in enumerate(pairwise(offsets)):
        yield view[start:stop] if present is None or present[row] else None
