"""How small text records get: zstd with a trained dictionary beside zstd per record, at the same level.

Records are 1 KiB pieces of real text, shuffled by a seed: the sources of Python's standard library, the licences and
the documents of the packages on this machine (changelogs excepted), at most 96 MB. The dictionary is trained as a
DatasetWriter trains it, from the first records. "values" counts what zstd makes of the records; "file" counts the
shard with everything in it: header, frames, index, lanes, checksums, the dictionary.

    python benchmarks/bench_text_size.py [--level 3] [--megabytes 96]
"""

from __future__ import annotations

import argparse
import gzip
import random
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import machine
import numpy as np
import pyarrow as pa

from fastfeed._native.frames import ZstdEncoder
from fastfeed.format import dictionary
from fastfeed.format.encode import SampleEncoder
from fastfeed.format.schema import Bytes, Schema
from fastfeed.format.writer import ShardWriter

RECORD_BYTES = 1024
HELD_OUT_COUNT = 4000
BATCH_ROWS = 1024
# Enough text that the dictionary reaches its full size, and its cost in the shard is what it is in practice.
CORPUS_BYTES_MIN = 79_000_000
# What a dictionary of 64 KiB, from 6 MB of text, reaches on the same text is 0.77; with a margin.
BOUND_OF_LESS_TEXT = 0.85


def text_files() -> Iterator[Path]:
    roots = [
        Path(sysconfig.get_path("stdlib")).rglob("*.py"),
        Path("/usr/share/common-licenses").glob("*"),
        Path("/usr/share/doc").rglob("*"),
    ]
    for root in roots:
        for path in sorted(root):
            usable = path.is_file() and not path.is_symlink() and "site-packages" not in path.parts
            if usable and "changelog" not in path.name.lower() and path.stat().st_size < 200_000:
                yield path


def read_text(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError):
            return b""
    return data if b"\0" not in data else b""


def records(bytes_max: int) -> list[bytes]:
    """Pieces of exactly RECORD_BYTES, in seeded order."""
    text = b"".join(map(read_text, text_files()))
    pieces = [text[at : at + RECORD_BYTES] for at in range(0, len(text) - RECORD_BYTES, RECORD_BYTES)]
    random.Random(0).shuffle(pieces)
    return pieces[: bytes_max // RECORD_BYTES]


def shard_bytes(pieces: list[bytes], level: int, trained: bytes) -> int:
    """The size of one shard file of these records."""
    schema = Schema({"text": Bytes(codec="zstd")})  # pieces are cut anywhere, so they are bytes
    dictionaries = {"text": trained} if trained else {}
    with tempfile.TemporaryDirectory() as name:
        encoder = SampleEncoder(schema, dictionaries, level)
        writer = ShardWriter(Path(name), schema, dictionaries)
        for start in range(0, len(pieces), BATCH_ROWS):
            column = pa.array(pieces[start : start + BATCH_ROWS], pa.large_binary())
            writer.add(encoder.encode_batch(pa.record_batch([column], names=["text"])))
        return writer.finish(Path(name)).bytes


def values_bytes(pieces: list[bytes], level: int, trained: bytes) -> int:
    offsets = np.arange(len(pieces) + 1, dtype=np.int64) * RECORD_BYTES
    return ZstdEncoder(level, trained).encode(b"".join(pieces), offsets)[0].nbytes


def ratios(pieces: list[bytes], level: int, trained: bytes) -> tuple[float, float, float]:
    """(values that the dictionary has not seen, all values, the whole file), each as a part of zstd per record."""
    held_out = pieces[-HELD_OUT_COUNT:]
    return (
        values_bytes(held_out, level, trained) / values_bytes(held_out, level, b""),
        values_bytes(pieces, level, trained) / values_bytes(pieces, level, b""),
        shard_bytes(pieces, level, trained) / shard_bytes(pieces, level, b""),
    )


def train(pieces: list[bytes], level: int, dictionary_bytes: int) -> bytes:
    return dictionary.train(pieces[:-HELD_OUT_COUNT], dictionary_bytes=dictionary_bytes, level=level)


def test_text_of_1_kb_with_a_dictionary_is_at_most_0_70_of_zstd_per_record() -> None:
    """A machine with less text trains a smaller dictionary, which gains less; the bound follows."""
    pieces = records(CORPUS_BYTES_MIN)
    whole = len(pieces) >= CORPUS_BYTES_MIN // RECORD_BYTES
    bound = 0.70 if whole else BOUND_OF_LESS_TEXT
    trained = train(pieces, 3, dictionary.DICTIONARY_BYTES)
    held_out = pieces[-HELD_OUT_COUNT:]
    values = [values_bytes(held_out, 3, each) for each in (trained, b"")]
    file = [shard_bytes(pieces, 3, each) for each in (trained, b"")]
    assert values[0] <= bound * values[1]
    assert file[0] <= bound * file[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=96)
    options = parser.parse_args()
    pieces = records(options.megabytes * 1_000_000)
    print(machine.describe("fastfeed"))
    print(f"{len(pieces)} records of {RECORD_BYTES} bytes, level {options.level}")
    print("dictionary KiB  trained in s  held-out values  all values  file")
    for kib in (16, 64, 112, 256, 512, 1024):
        begun = time.perf_counter()
        trained = train(pieces, options.level, kib * 1024)
        seconds = time.perf_counter() - begun
        held_out, values, file = ratios(pieces, options.level, trained)
        print(f"{len(trained) / 1024:14.0f}  {seconds:12.1f}  {held_out:15.3f}  {values:10.3f}  {file:.3f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
