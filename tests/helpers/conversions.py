"""One small input of each kind that `fastfeed convert` reads, of several tasks; and what a conversion has made."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastfeed.dataset.manifest import Manifest, decode_manifest
from tests.helpers.image_folders import class_files, encoded, write_files
from tests.helpers.sources import compressed, tar_of

FILES = 10
ROWS_A_FILE = 20
KINDS = ("imagefolder", "webdataset", "parquet", "jsonl")


def text(number: int) -> str:
    """Hundreds of words that differ from row to row."""
    draw = random.Random(number)
    return " ".join(draw.choice(["hen", "egg", "barn", "corn", "feed", "fox"]) for _ in range(600 + number % 90))


def write_input(kind: str, folder: Path) -> Path:
    """An input of `kind` in `folder`."""
    if kind == "imagefolder":
        return write_files(folder, class_files(per_class=30))
    folder.mkdir(parents=True)
    for file in range(FILES):
        rows = range(file * ROWS_A_FILE, (file + 1) * ROWS_A_FILE)
        if kind == "webdataset":
            samples = [
                {"__key__": f"{row:05}", "jpg": encoded("chelsea", row % 9, "JPEG"), "cls": row, "txt": text(row)}
                for row in rows
            ]
            suffix = [".tar", ".tar.gz", ".tar.zst"][file % 3]
            (folder / f"{file:03}{suffix}").write_bytes(compressed(tar_of(samples), suffix))
        elif kind == "parquet":
            table = pa.table(
                {
                    "id": np.array(rows),
                    "caption": [text(row) if row % 7 else None for row in rows],
                    "vector": [[float(row), 0.5] for row in rows],
                }
            )
            pq.write_table(table, folder / f"{file:03}.parquet", row_group_size=8)
        else:
            lines = [json.dumps({"id": row, "caption": text(row), "tags": ["a"] * (row % 3)}) for row in rows]
            suffix = [".jsonl", ".jsonl.gz"][file % 2]
            (folder / f"{file:03}{suffix}").write_bytes(compressed(("\n".join(lines) + "\n").encode(), suffix))
    return folder


def data_files(target: Path) -> dict[str, bytes]:
    """Shards and index files."""
    paths = [*target.glob("shards/*"), *target.glob("_feed/index/*")]
    return {str(path.relative_to(target)): path.read_bytes() for path in paths}


def manifest_of(target: Path, snapshot: int = 1) -> Manifest:
    path = target / "_feed" / "manifests" / f"{snapshot:020}.arrow"
    return decode_manifest(memoryview(path.read_bytes()), str(path))


def all_but_provenance(manifest: Manifest) -> dict[str, Any]:
    """What two equal conversions must agree on besides their files."""
    shards = {
        name: getattr(manifest.shards, name).tolist()
        for name in ("path_offsets", "path_data", "uids", "xxh3_128", "file_bytes", "rows", "payload_ends",
                     "row_index_at", "chunk_checksums_at", "dictionary_set")
    }  # fmt: skip
    return {
        "snapshot": manifest.snapshot,
        "schema": manifest.schema.fingerprint,
        "rows": manifest.rows,
        "block_rows": manifest.block_rows,
        "index_files": list(manifest.index_files),
        "dictionary_sets": list(manifest.dictionary_sets),
        "metadata": dict(manifest.metadata),
        "shards": shards,
    }
