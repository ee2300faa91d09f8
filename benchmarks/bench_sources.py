"""What each source of `fastfeed convert` costs one thread: the scan, the reading, and reading with encoding.

CPU seconds, so that neighbours matter little; nothing is written. Records have 600 B of noise (in JSON lines: of
text, and a list of four numbers); samples of tars have 95 KB of noise and a number.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import machine
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from fastfeed.convert.detect import source_of  # noqa: E402
from fastfeed.convert.encoding import encoded_pieces  # noqa: E402
from fastfeed.convert.source import Source  # noqa: E402
from fastfeed.format.encode import SampleEncoder  # noqa: E402
from tests.helpers.sources import compressed  # noqa: E402

RECORD_BYTES, MEMBER_BYTES = 600, 95_000
RECORDS, LINES, SAMPLES = 1_000_000, 200_000, 4_000
QUICK_DIVISOR = 200


def write_parquet(path: Path, rows: int) -> None:
    """All rows in one row group, as pyarrow writes a million of them."""
    noise = np.random.default_rng(0).integers(0, 256, rows * RECORD_BYTES, np.uint8)
    offsets = np.arange(rows + 1, dtype=np.int32) * RECORD_BYTES
    records = pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(noise)])
    pq.write_table(pa.table({"id": np.arange(rows), "record": records}), path)


def write_lines(path: Path, rows: int) -> None:
    """Lines of about RECORD_BYTES."""
    draw = random.Random(0)
    words = ["hen", "egg", "barn", "corn", "feed", "fox", "grün"]
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            numbers = [draw.random() for _ in range(4)]
            text = " ".join(draw.choices(words, k=110))
            file.write(json.dumps({"id": row, "text": text, "numbers": numbers}, ensure_ascii=False) + "\n")


def write_tar(path: Path, rows: int) -> None:
    """Samples of two members."""
    with tarfile.open(path, "w") as archive:
        for row in range(rows):
            for suffix, content in (("bin", random.Random(row).randbytes(MEMBER_BYTES)), ("cls", b"%d" % row)):
                member = tarfile.TarInfo(f"{row:06}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def write_inputs(folder: Path, divisor: int = 1) -> list[Path]:
    """One input a kind."""
    write_parquet(folder / "records.parquet", RECORDS // divisor)
    write_lines(folder / "lines.jsonl", LINES // divisor)
    write_tar(folder / "samples.tar", SAMPLES // divisor)
    for name in ("lines.jsonl", "samples.tar"):
        (folder / f"{name}.zst").write_bytes(compressed((folder / name).read_bytes(), ".zst"))
    return sorted(folder.iterdir())


def cpu_s(pieces: Iterable[object]) -> float:
    """What going through all of `pieces` takes."""
    started_s = time.process_time()
    for _ in pieces:
        pass
    return time.process_time() - started_s


def measured(source: Source) -> str:
    """One line about a source."""
    started_s = time.process_time()
    plan = source.plan(None)
    scan_s = time.process_time() - started_s
    rows, size_bytes = sum(item.rows for item in plan.items), sum(item.size_bytes for item in plan.items)
    read_s = cpu_s(source.batches(plan.schema, plan.items))
    encoder = SampleEncoder(plan.schema)
    all_s = cpu_s(encoded_pieces(source, plan.items, encoder, check="structure", on_error="stop"))
    return (
        f"{rows:>9,} rows {size_bytes / 1e6:7.1f} MB   scan {scan_s:6.2f} s   read {read_s:6.2f} s   read and encode "
        f"{all_s:6.2f} s: {rows / all_s:>11,.0f} rows/s, {size_bytes / 1e6 / all_s:6.0f} MB/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small inputs")
    divisor = QUICK_DIVISOR if parser.parse_args().quick else 1
    print(machine.describe("numpy", "pyarrow"))
    with tempfile.TemporaryDirectory() as folder:
        for path in write_inputs(Path(folder), divisor):
            print(f"{path.name:<16} {measured(source_of('auto', path))}")


def test_all_sources(benchmark, tmp_path) -> None:
    paths = write_inputs(tmp_path, QUICK_DIVISOR)
    benchmark.pedantic(lambda: [measured(source_of("auto", path)) for path in paths], rounds=1)


if __name__ == "__main__":
    main()
