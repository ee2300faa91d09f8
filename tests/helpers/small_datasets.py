"""Datasets of a few KB, one of each layout and with every kind of column: what tests of damage work on.

Each has several shards, so that files can be exchanged, and rows that differ, so that a wrong one is seen.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from fastfeed.dataset.commit import commit_shards
from fastfeed.dataset.delete import delete
from fastfeed.format.schema import Array, Bytes, Image, Json, Scalar, Schema, StreamSchema, Tensor, Text
from fastfeed.storage.location import storage_at
from tests.helpers.png import tiny_png
from tests.helpers.shards import small_dictionary, write_shard, write_stream

KINDS = Schema({
    "i": Scalar("int64"), "b": Scalar("bool"), "maybe": Scalar("float32", nullable=True),
    "tensor": Tensor("int16", (2, 3)), "boxes": Array("float32", (None, 4)), "bytes": Bytes(),
    "text": Text(), "json": Json(nullable=True), "image": Image(),
})  # fmt: skip
FIXED = Schema({"x": Scalar("float64"), "y": Tensor("uint8", (3,), nullable=True)})
CODED = Schema({
    "text": Text(codec="zstd"), "json": Json(codec="zstd", nullable=True),
    "array": Array("uint16", (None, 2), codec="zstd"),
})  # fmt: skip
IMAGES = Schema({"image": Image(), "id": Scalar("int64")})
ROWS_PER_SHARD = 3
SHARDS = 2


def kinds(row: int) -> dict[str, Any]:
    return {
        "i": -(10**row), "b": row % 2 == 0, "maybe": None if row % 3 == 0 else row / 7,
        "tensor": np.arange(6, dtype=np.int16).reshape(2, 3) * (row - 2),
        "boxes": np.arange(4 * row, dtype=np.float32).reshape(row, 4), "bytes": bytes(range(row * 3)),
        "text": "grüße " * row, "json": None if row == 1 else {"row": row}, "image": tiny_png(3 + row, 2, 40 * row),
    }  # fmt: skip


def fixed(row: int) -> dict[str, Any]:
    return {"x": row / 3, "y": None if row == 2 else np.full(3, row, np.uint8)}


def coded(row: int) -> dict[str, Any]:
    return {
        "text": f"word {row}, and word {row + 1} with more words " * (1 + row),
        "json": None if row == 1 else {"words": ["word"] * 20 * row},
        "array": np.arange(40 * row, dtype=np.uint16).reshape(-1, 2) // 9,
    }


def picture(row: int) -> dict[str, Any]:
    pixels = np.random.default_rng(row).integers(0, 255, (8, 9, 3), np.uint8)
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, ["JPEG", "PNG", "WEBP"][row % 3])
    return {"image": file.getvalue(), "id": row}


def document(row: int) -> np.ndarray[Any, Any]:
    """Documents of 0 to 1,800 tokens, so that the stream of a shard has several pages; no token comes twice."""
    return np.arange(1800 * row, 1800 * row + 600 * (row % 4), dtype=np.uint16)


LAYOUTS = ("kinds", "fixed", "coded", "images", "tokens")
# `deleted` has two snapshots, and a bitmap file.
NAMES = (*LAYOUTS, "deleted")
DELETED_ROWS = (1, 4)


def write_small(place: Path, name: str) -> Path:
    """Write the small dataset `name` into `place`."""
    if name == "deleted":
        delete(write_small(place, "kinds"), DELETED_ROWS)
        return place
    storage = storage_at(place)
    staging = storage.staging() / "by-hand"
    staging.mkdir()
    try:
        if name == "tokens":
            documents = [document(row) for row in range(SHARDS * ROWS_PER_SHARD)]
            shards = [write_stream(staging, "uint16", documents[start:stop]) for start, stop in _cuts()]
            commit_shards(storage, schema=StreamSchema("uint16"), shards=shards)
        else:
            schema, row_of, dictionaries = _ROWS[name]
            shards = [
                write_shard(staging, schema, [row_of(row) for row in range(start, stop)], dictionaries=dictionaries)
                for start, stop in _cuts()
            ]
            commit_shards(storage, schema=schema, shards=shards, dictionaries=dictionaries)
    finally:
        shutil.rmtree(staging.parent)
    return place


def _cuts() -> list[tuple[int, int]]:
    return list(pairwise(range(0, (SHARDS + 1) * ROWS_PER_SHARD, ROWS_PER_SHARD)))


_DICTIONARY = small_dictionary()
_ROWS: dict[str, tuple[Schema, Callable[[int], dict[str, Any]], dict[str, bytes]]] = {
    "kinds": (KINDS, kinds, {}),
    "fixed": (FIXED, fixed, {}),
    "coded": (CODED, coded, {"text": _DICTIONARY, "json": _DICTIONARY}),
    "images": (IMAGES, picture, {}),
}


def files_of(place: Path) -> list[Path]:
    """The files of a dataset that have bytes, in a fixed order."""
    return sorted(path for path in place.rglob("*") if path.is_file() and path.stat().st_size)
