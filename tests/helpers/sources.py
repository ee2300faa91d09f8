"""What a source's rows become when they are written and read again, and input files made by the libraries of
their formats.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import webdataset
import zstandard

from fastfeed.convert.encoding import encoded_pieces
from fastfeed.convert.source import Item, Rejected, Source
from fastfeed.format.encode import SampleEncoder
from fastfeed.format.reference import ReferenceShard
from fastfeed.format.schema import Schema
from fastfeed.format.writer import ShardWriter

Sample = dict[str, Any]


class Written(NamedTuple):
    """What came of a source."""

    samples: list[Sample]
    rejected: list[Rejected]


def written(
    source: Source,
    folder: Path,
    *,
    schema: Schema | None = None,
    items: Sequence[Item] | None = None,
    limit_rows: int | None = None,
    on_error: str = "stop",
    check: str = "structure",
) -> Written:
    """Write a source's rows into one shard in `folder`, and read it with the reference reader."""
    if schema is None or items is None:
        plan = source.plan(limit_rows)
        schema, items = schema or plan.schema, plan.items if items is None else items
    encoder, writer, rejected = SampleEncoder(schema), ShardWriter(folder, schema), []
    rows = 0
    try:
        for piece in encoded_pieces(source, items, encoder, check=check, on_error=on_error):
            if isinstance(piece, Rejected):
                rejected.append(piece)
            else:
                writer.add(piece)
                rows += piece.rows
    except BaseException:
        writer.abort()
        raise
    if rows == 0:
        writer.abort()
        return Written([], rejected)
    sealed = writer.finish(folder)
    return Written([plain(sample) for sample in ReferenceShard(sealed.path).samples()], rejected)


def plain(sample: Sample) -> Sample:
    """With lists in the place of arrays, which compare as one value."""
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in sample.items()}


def compressed(content: bytes, suffix: str) -> bytes:
    """The content as a file whose name ends with `suffix`."""
    if suffix.endswith(".gz"):
        return gzip.compress(content, mtime=0)
    return zstandard.compress(content) if suffix.endswith(".zst") else content


def tar_of(samples: Sequence[Sample]) -> bytes:
    """An archive by webdataset's own writer; values are encoded by their suffixes."""
    file = io.BytesIO()
    with webdataset.TarWriter(file, mtime=0) as writer:
        for sample in samples:
            writer.write(sample)
    return file.getvalue()


def read_by_webdataset(path: Path) -> Iterator[Sample]:
    """The samples of a plain archive as webdataset reads them: suffix -> bytes."""
    with path.open("rb") as stream:
        files = webdataset.tariterators.tar_file_expander([{"url": path.name, "stream": stream}])
        for sample in webdataset.tariterators.group_by_keys(files):
            yield {name: value for name, value in sample.items() if name != "__url__"}


def tar_of_files(files: Sequence[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive by Python's tarfile, with any names."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()
