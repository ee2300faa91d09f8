"""Reading Arrow that nobody trusts: one place for what a hostile file can make pyarrow do.

pyarrow raises its own errors for most of it, UnicodeDecodeError where a name is no UTF-8 (only when the name is asked
for), and takes memory where buffers are compressed; the format has no compressed ones.
"""

from __future__ import annotations

import pyarrow as pa

from fastfeed.errors import CorruptDataError

_ERRORS = (pa.ArrowException, OSError, UnicodeDecodeError)


def read_batch(file: pa.Buffer, what: str) -> pa.RecordBatch:
    """The one record batch of an Arrow file, as views of it, validated. CorruptDataError; `what` opens its message."""
    try:
        reader = pa.ipc.open_file(file)
        if reader.num_record_batches != 1:
            raise CorruptDataError(f"{what}: {reader.num_record_batches} record batches; there must be one")
        batch = reader.get_batch(0)
        batch.validate(full=True)
        _ask_for_names(batch.schema)
        buffers = [buffer for column in batch.columns for buffer in column.buffers()]
    except _ERRORS as error:
        raise CorruptDataError(f"{what}: not an Arrow file: {error}") from error
    for buffer in buffers:
        if buffer is not None and buffer.size and not file.address <= buffer.address < file.address + file.size:
            raise CorruptDataError(f"{what}: is a compressed Arrow file, which the format does not have")
    return batch


def read_schema(message: bytes, what: str) -> pa.Schema:
    """The schema in an encapsulated message. CorruptDataError; `what` opens its message."""
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(message))
        _ask_for_names(schema)
    except _ERRORS as error:
        raise CorruptDataError(f"{what}: no Arrow schema: {error}") from error
    return schema


def _ask_for_names(schema: pa.Schema) -> None:
    """All that pyarrow decodes when it is asked for; types may have names too."""
    for field in schema:
        str(field.name), str(field.type)
