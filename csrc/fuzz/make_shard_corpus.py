"""Writes the seed corpora of fuzz_header and fuzz_shard: shards of a few rows with columns of every kind. Run as
`python csrc/fuzz/make_shard_corpus.py`, with fastfeed built in place and Pillow installed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import numpy as np  # noqa: E402

from fastfeed._native.frames import FrameLayout  # noqa: E402
from tests.helpers.raw_shards import ARRAY, BYTES, IMAGE, JSON, SCALAR, TENSOR, TEXT, Col, header, uid_of  # noqa: E402

PLAIN, IMAGES_EXACT, IMAGES_SHORT = 0, 0b0010_0011, 0b0100_0001  # fuzz_shard's choice
ZSTD, NULLABLE, CAST = 16, 32, 64


def seed(columns: Sequence[Col], rows: Sequence[Sequence[Any]], *, choice: int = PLAIN, cast: bool = False) -> bytes:
    """fuzz_shard's input for a shard of `rows`."""
    layout = FrameLayout([column.spec() for column in columns])
    values = list(zip(*rows, strict=True))
    encoded = [column.encode(each) for column, each in zip(columns, values, strict=True)]
    frames, sizes, _ = layout.encode(len(rows), encoded)
    start = [len(columns), len(rows), choice]
    for column in columns:
        items = int(np.prod([extent for extent in column.shape if extent is not None], dtype=np.int64))
        what = column.kind | ZSTD * column.codec | NULLABLE * column.nullable | CAST * cast
        start += [what, np.dtype(column.dtype).itemsize.bit_length() - 1 | (items - 1) << 2]
    return bytes(start) + bytes(int(size) // 8 for size in sizes) + frames.tobytes()


def shard_seeds() -> dict[str, bytes]:
    corpus = HERE / "corpus" / "image"
    words = b"row after row of words, " * 8
    numbers = [Col("n", SCALAR, "int64"), Col("b", SCALAR, "bool", nullable=True), Col("t", TENSOR, "float32", (3,))]
    texts = [Col("s", TEXT, codec=1), Col("j", JSON, nullable=True), Col("z", BYTES, codec=1, nullable=True)]
    arrays = [Col("a", ARRAY, "float16", (None, 2)), Col("f", ARRAY, "int64", (None,), codec=1)]
    images = [Col("i", IMAGE), Col("n", SCALAR, "int64")]
    names = ("baseline.jpg", "rgb.png", "lossy.webp", "truncated.jpg")
    pictures = [((corpus / name).read_bytes(), 3) for name in names]
    return {
        "numbers": seed(numbers, [(1, True, [1, 2, 3]), (-5, None, [0, 0, 0])]),
        "numbers-cast": seed(numbers, [(1, True, [1, 2, 3]), (-5, None, [0, 0, 0])], cast=True),
        "texts": seed(texts, [(words.decode(), '{"a":[1]}', words), ("short", None, None)]),
        "arrays": seed(arrays, [(np.ones((2, 2)), np.zeros(90)), (np.ones((0, 2)), np.arange(2))]),
        "arrays-cast": seed(arrays, [(np.ones((2, 2)), np.zeros(90))], cast=True),
        "images": seed(images, pictures[:1]),
        "images-decoded": seed(images, pictures[:3], choice=IMAGES_EXACT),
        "images-ragged": seed(images, pictures[1:], choice=IMAGES_SHORT),
        "no-columns": seed([], []),
    }


def header_seeds() -> dict[str, bytes]:
    """fuzz_header's: flags, then a header without the zeros before its crc."""
    right = header(uid_of(7))[:80]
    return {
        "rows": b"\3" + right,
        "stream": b"\7" + header(uid_of(7), 1)[:80],
        "newer": b"\3" + header(uid_of(7), major=2)[:80],
        "flags": b"\3" + header(uid_of(7), incompatible=1 << 63)[:80],
        "wrong-crc": b"\2" + right,
        "too-long": b"\3" + header(uid_of(7)) + b"x",
    }


if __name__ == "__main__":
    for target, seeds in (("shard", shard_seeds()), ("header", header_seeds())):
        folder = HERE / "corpus" / target
        folder.mkdir(exist_ok=True)
        for name, content in seeds.items():
            (folder / name).write_bytes(content)
