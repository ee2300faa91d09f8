"""Made the golden shards of format version 1. Run once; kept to show how (python -m tests.compat.make_golden_v1).

Running it again where files exist is refused: what a released version wrote is not ours to change.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow as pa

from fastfeed.dataset.writer import DatasetWriter
from tests.compat.golden_cases import CASES, GOLDEN, KINDS, as_read, kinds
from tests.helpers.shards import small_dictionary


def main() -> int:
    if GOLDEN.exists():
        sys.exit(f"{GOLDEN} exists; golden files do not change")
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
