"""The content of the golden shards of version 1: every column kind, codec, null and layout, small enough to read.

Never changes: a released version made the files from exactly this. A later version of the format gets cases of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastfeed.format.schema import Array, Bytes, Image, Json, Scalar, Schema, Tensor, Text
from fastfeed.format.seal import SealedShard
from tests.helpers.png import tiny_png
from tests.helpers.shards import write_shard, write_stream

GOLDEN = Path(__file__).parent / "golden" / "v1"
# A dataset of three snapshots: four rows; three more; without rows DELETED.
CHANGED = Path(__file__).parent / "golden" / "v1-changed"
DELETED = [1, 5]

KINDS = Schema({
    "i": Scalar("int64"), "u": Scalar("uint8"), "f": Scalar("float32"), "h": Scalar("float16"), "b": Scalar("bool"),
    "tensor": Tensor("int16", (2, 3)), "boxes": Array("float32", (None, 4)), "mask": Array("bool", (None,)),
    "bytes": Bytes(), "text": Text(), "json": Json(), "image": Image(),
})  # fmt: skip
NULLS = Schema({name: column.__class__(**{**column.__dict__, "nullable": True}) for name, column in KINDS.items()})
CODED = Schema({
    "text": Text(codec="zstd"), "json": Json(codec="zstd", nullable=True), "bytes": Bytes(codec="zstd"),
    "array": Array("uint16", (None, 2), codec="zstd"), "same": Text(codec="zstd"),
})  # fmt: skip
FIXED = Schema({"x": Scalar("float64"), "y": Tensor("uint8", (3,), nullable=True)})


def kinds(i: int) -> dict[str, Any]:
    return {
        "i": -(10**i), "u": i, "f": i / 3, "h": 1 / (i + 1), "b": i % 2 == 0,
        "tensor": np.arange(6, dtype=np.int16).reshape(2, 3) * (i - 2),
        "boxes": np.arange(4 * i, dtype=np.float32).reshape(i, 4) / 7,
        "mask": np.arange(i + 2) % 2 == 0,
        "bytes": bytes(range(i * 3)), "text": "grüße " * i, "json": {"ключ": [i, None, True, "x"], "n": {"f": i / 2}},
        "image": tiny_png(3 + i, 2, 40 * i),
    }  # fmt: skip


def nulls(i: int) -> dict[str, Any]:
    """Row i misses every column whose number has bit i."""
    return {name: None if number >> i & 1 else value for number, (name, value) in enumerate(kinds(i).items())}


def coded(i: int) -> dict[str, Any]:
    return {
        "text": f"word {i}, and word {i + 1} with more words " * (i * 3),
        "json": None if i == 1 else {"words": ["word"] * 20 * i},
        "bytes": b"ab" * 50 * i,
        "array": np.arange(40 * i, dtype=np.uint16).reshape(-1, 2) // 9,
        "same": "zq",  # does not get shorter: stored as it is
    }


def fixed(i: int) -> dict[str, Any]:
    return {"x": i / 7, "y": None if i % 3 == 0 else np.array([i, i + 1, i + 2], np.uint8)}


DOCUMENTS = [list(range(5000)), [], [65535], list(range(9, 200, 7)), []]


@dataclass(frozen=True)
class Case:
    """One golden shard: `samples` as readers give them."""

    name: str
    schema: Schema | None
    samples: list[dict[str, Any]]
    dictionary: bool = False
    dtype: str = ""

    @property
    def path(self) -> Path:
        return GOLDEN / f"{self.name}.ffs"

    @property
    def compressed(self) -> bool:
        return self.schema is CODED

    def write(self, folder: Path) -> SealedShard:
        """Write the case with today's writer."""
        if self.schema is None:
            return write_stream(folder, self.dtype, [sample["tokens"] for sample in self.samples])
        trained = (GOLDEN / "dictionary.zdict").read_bytes()
        dictionaries = {"text": trained, "json": trained} if self.dictionary else None
        return write_shard(folder, self.schema, self.samples, dictionaries=dictionaries)


def stream(name: str, dtype: str) -> Case:
    return Case(name, None, [{"tokens": np.array(each, dtype)} for each in DOCUMENTS], dtype=dtype)


def as_read(schema: Schema, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Floats of narrow columns come back rounded to their type."""
    rounded = [dict(sample) for sample in samples]
    for sample in rounded:
        for name, column in schema.items():
            if isinstance(column, Scalar) and sample[name] is not None:
                sample[name] = np.dtype(column.dtype).type(sample[name]).item()
    return rounded


CASES = [
    Case("kinds", KINDS, as_read(KINDS, [kinds(i) for i in range(4)])),
    Case("nulls", NULLS, as_read(NULLS, [nulls(i) for i in range(4)])),
    Case("zstd", CODED, [coded(i) for i in range(4)]),
    Case("zstd-dictionary", CODED, [coded(i) for i in range(4)], dictionary=True),
    Case("fixed-stride", FIXED, [fixed(i) for i in range(9)]),
    stream("stream-u16", "uint16"),
    stream("stream-u32", "uint32"),
]
