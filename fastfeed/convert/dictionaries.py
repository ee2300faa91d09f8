"""The zstd dictionaries of a conversion: one a column, trained from the first rows before any worker starts.

So all shards share them, and none depends on who wrote it. They are kept in the staging folder: a later run takes
them from there, and would get the same by training again.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from fastfeed.convert.source import Plan, Rejected, Samples, Source
from fastfeed.convert.task_record import read_sealed_json, write_sealed_json
from fastfeed.errors import ConfigError
from fastfeed.format import dictionary, from_arrow, from_python
from fastfeed.format.encode import ZSTD_LEVEL
from fastfeed.format.schema import Codec, Schema

DICTIONARIES_NAME = "dictionaries.json"


def dictionaries_of(source: Source, plan: Plan, staging: Path, shard_bytes: int) -> dict[str, bytes]:
    """Column -> dictionary, for the zstd columns that gain from one."""
    columns = [name for name, column in plan.schema.items() if column.storage is Codec.ZSTD]
    if not columns:
        return {}
    kept = read_sealed_json(staging / DICTIONARIES_NAME)
    if kept is None:
        trained = train(source, plan, columns, dictionary.dictionary_bytes_for(shard_bytes))
        kept = {name: base64.b64encode(each).decode() for name, each in trained.items()}
        write_sealed_json(staging / DICTIONARIES_NAME, kept)
    return {name: base64.b64decode(each) for name, each in kept.items()}


def train(source: Source, plan: Plan, columns: list[str], dictionary_bytes: int) -> dict[str, bytes]:
    """Train from as many of the first values of each column as are worth it."""
    wanted_bytes = dictionary.sample_budget_bytes(dictionary_bytes)
    samples: dict[str, list[bytes]] = {name: [] for name in columns}
    missing_bytes = dict.fromkeys(columns, wanted_bytes)
    for rows in source.batches(plan.schema, plan.items):
        if isinstance(rows, Rejected):
            continue  # the worker that meets it says so
        for name in columns:
            if missing_bytes[name] > 0:
                values = [*values_of(plan.schema, name, rows.samples)]
                samples[name] += values
                missing_bytes[name] -= sum(map(len, values))
        if all(missing <= 0 for missing in missing_bytes.values()):
            break
    trained = {
        name: dictionary.train(values, dictionary_bytes=dictionary_bytes, level=ZSTD_LEVEL)
        for name, values in samples.items()
    }
    return {name: each for name, each in trained.items() if each}


def values_of(schema: Schema, name: str, samples: Samples) -> Iterator[bytes]:
    """The values of one column as they are stored; none of a batch in which one does not fit its schema: the worker
    that meets it names it."""
    column = schema[name]
    try:
        if isinstance(samples, pa.RecordBatch):
            if name not in samples.schema.names:
                return
            plain = from_arrow.plain_column(name, column, samples.column(name))
        else:
            plain = from_python.plain_column(name, column, [sample.get(name) for sample in samples])
    except ConfigError:
        return
    if plain.values is not None and plain.offsets is not None:
        for start, stop in pairwise(plain.offsets.tolist()):
            yield plain.values[start:stop].tobytes()
