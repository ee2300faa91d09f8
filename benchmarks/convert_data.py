"""Inputs for measuring conversions, made of seeded noise and of photographs that scikit-image brings along."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data
from PIL import Image

RECORD_BYTES = 600
# Rows of one Parquet file; one row group of as many rows as writers make by default would be the whole of it.
RECORDS_A_FILE = 250_000
RECORDS_A_GROUP = 65_536
CLASSES = 10
# So many pictures are different; the others have the same bytes under other names, which nobody looks at.
DISTINCT_IMAGES = 200
# Crops of this size at quality 95 have about 95 KB.
IMAGE_SIZE = (620, 460)
JPEG_QUALITY = 95


def images(folder: Path, count: int, distinct: int = DISTINCT_IMAGES) -> Path:
    """`count` JPEG files in class folders that are called by their number."""
    if not folder.is_dir():
        encoded = [jpeg(number) for number in range(min(count, distinct))]
        for number in range(count):
            path = folder / str(number % CLASSES) / f"{number:07}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded[number % len(encoded)])
    return folder


def jpeg(number: int) -> bytes:
    """One crop of a photograph, a little larger than it was, with the grain that a camera's pictures have."""
    rng = np.random.default_rng(number)
    source = [skimage.data.chelsea, skimage.data.coffee, skimage.data.rocket][number % 3]()
    height, width = source.shape[:2]
    side = int(min(height, width) * rng.uniform(0.5, 0.9))
    top, left = int(rng.integers(0, height - side)), int(rng.integers(0, width - side))
    pixels = np.asarray(Image.fromarray(source[top : top + side, left : left + side]).resize(IMAGE_SIZE))
    grainy = np.clip(pixels + rng.normal(0, 3.0, pixels.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grainy).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def records(folder: Path, count: int) -> Path:
    """Parquet files with the columns `id` and `record`, RECORD_BYTES of noise each."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for start in range(0, count, RECORDS_A_FILE):
            write_records(folder / f"{start:010}.parquet", start, min(RECORDS_A_FILE, count - start))
    return folder


def write_records(path: Path, start: int, count: int) -> None:
    rng = np.random.default_rng(start)
    data = pa.py_buffer(rng.bytes(count * RECORD_BYTES))
    offsets = pa.py_buffer(np.arange(count + 1, dtype=np.int32) * RECORD_BYTES)
    table = pa.table(
        {
            "id": np.arange(start, start + count),
            "record": pa.BinaryArray.from_buffers(pa.binary(), count, [None, offsets, data]),
        }
    )
    pq.write_table(table, path, row_group_size=RECORDS_A_GROUP)


def big_parquet(folder: Path, size_bytes: int) -> Path:
    """Records of `size_bytes` together."""
    return records(folder, size_bytes // RECORD_BYTES)


def big_jsonl(folder: Path, size_bytes: int) -> Path:
    """One file of JSON lines of `size_bytes`."""
    folder.mkdir(parents=True)
    line = json.dumps({"id": 0, "text": os.urandom(256).hex(), "tags": ["a", "b"], "score": 0.5}) + "\n"
    block = (line * (1 + (8 << 20) // len(line))).encode()
    path = folder / "lines.jsonl"
    with open(path, "wb") as file:
        while file.tell() < size_bytes:
            file.write(block)
    return path


def big_images(folder: Path, size_bytes: int) -> Path:
    """JPEG files of `size_bytes` together."""
    return images(folder, size_bytes // len(jpeg(0)), DISTINCT_IMAGES // 10)


MAKERS: dict[str, Callable[[Path, int], Path]] = {"parquet": big_parquet, "jsonl": big_jsonl, "images": big_images}
