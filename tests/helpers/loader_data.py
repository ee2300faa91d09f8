"""Small real datasets for tests of loaders: every row says which one it is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from fastfeed.dataset.dataset import Dataset
from fastfeed.dataset.dataset import open as open_dataset
from fastfeed.dataset.writer import DatasetWriter, TokenWriter
from fastfeed.format.schema import Array, Image, Json, Scalar, Schema, Tensor, Text

SCHEMA = Schema({
    "id": Scalar("int64"),
    "text": Text(codec="zstd"),
    "vector": Tensor("float32", (16,)),
    "boxes": Array("float32", (None, 4)),
    "meta": Json(),
    "weight": Scalar("float32", nullable=True),
})


def sample_of(row: int) -> dict[str, Any]:
    return {
        "id": row,
        "text": f"this is row {row} " * (1 + row % 3),
        "vector": np.full(16, row, np.float32),
        "boxes": np.full((row % 4, 4), row, np.float32),
        "meta": {"row": row},
        "weight": None if row % 5 == 0 else row / 2,
    }


def write_rows(place: Path, rows: int) -> Dataset:
    """`rows` samples in shards of the smallest size."""
    with DatasetWriter(place, SCHEMA, shard_size="64KiB") as writer:
        for row in range(rows):
            writer.write(sample_of(row))
    return open_dataset(place)


def write_images(place: Path, rows: int) -> Dataset:
    """Seeded noise with a bright corner, 48 x 40, as JPEG."""
    rng = np.random.default_rng(0)
    with DatasetWriter(place, Schema({"image": Image(), "id": Scalar("int64")}), shard_size="64KiB") as writer:
        for row in range(rows):
            pixels = rng.integers(0, 100, (40, 48, 3), np.uint8)
            pixels[:10, :10] = 255
            file = io.BytesIO()
            PillowImage.fromarray(pixels).save(file, "JPEG", quality=90)
            writer.write({"image": file.getvalue(), "id": row})
    return open_dataset(place)


def write_tokens(place: Path, documents: int) -> Dataset:
    """Documents of 0 to 9 tokens; token i of the stream is i."""
    with TokenWriter(place, dtype="uint16") as writer:
        first = 0
        for number in range(documents):
            writer.write(np.arange(first, first + number % 10, dtype=np.uint16))
            first += number % 10
    return open_dataset(place)
