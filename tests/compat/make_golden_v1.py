"""Made the golden shards of format version 1. Run once; kept to show how (python -m tests.compat.make_golden_v1).

It makes what is missing. Running it where all is there is refused: what a released version wrote is not ours to change.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow as pa

from fastfeed.dataset.delete import delete
from fastfeed.dataset.writer import DatasetWriter
from fastfeed.storage.local import LOCK_FILE
from tests.compat.golden_cases import CASES, CHANGED, DELETED, GOLDEN, KINDS, as_read, kinds
from tests.helpers.shards import small_dictionary


def main() -> int:
    parts = {GOLDEN: make_shards, CHANGED: make_changed}
    missing = [make for folder, make in parts.items() if not folder.exists()]
    for make in missing:
        make()
    if not missing:
        sys.exit(f"{', '.join(map(str, parts))} exist; golden files do not change")
    return 0


def make_changed() -> None:
    """Append and delete; a merged dataset names absolute paths, so none can be kept here."""
    samples = as_read(KINDS, [kinds(i) for i in range(4)])
    with DatasetWriter(CHANGED, KINDS, shard_size="64KiB", metadata={"made": "golden"}) as writer:
        for sample in samples:
            writer.write(sample)
    with DatasetWriter(CHANGED, append=True, shard_size="64KiB") as writer:
        for sample in samples[:3]:
            writer.write(sample)
    delete(CHANGED, DELETED)
    (CHANGED / LOCK_FILE).unlink()


def make_shards() -> None:
    GOLDEN.mkdir(parents=True)
    (GOLDEN / "dictionary.zdict").write_bytes(small_dictionary())
    recorded = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            sealed = case.write(Path(folder))
            shutil.copyfile(sealed.path, case.path)
        recorded[case.name] = {"uid": sealed.uid.hex(), "bytes": sealed.bytes, "xxh3_128": sealed.xxh3_128.hex()}
    with DatasetWriter(GOLDEN / "dataset", KINDS, shard_size="64KiB", metadata={"made": "golden"}) as writer:
        for sample in as_read(KINDS, [kinds(i) for i in range(4)]):
            writer.write(sample)
    made_by = {"pyarrow": pa.__version__, "shards": recorded}
    (GOLDEN / "recorded.json").write_text(json.dumps(made_by, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
