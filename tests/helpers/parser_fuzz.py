"""Hostile manifests, index files, bitmaps and shards for the parsers in Python, in a process whose memory is bounded.

    python -m tests.helpers.parser_fuzz [--executions N] [--seed S] [--only TARGET]

Each execution takes a file of a small dataset, edits it, gives it right checksums again (a checksum is no signature),
and lets everything read it that would. Only the errors that a user is promised may come out, within EXECUTION_S_MAX and
MEMORY_BYTES_MAX. Prints a line a target: executions, how many were accepted, the slowest. The first finding ends the
run with exit code 1, its seed and what it was. The native parsers have csrc/fuzz.
"""

from __future__ import annotations

import argparse
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import xxhash

import fastfeed as ff
from fastfeed.dataset.lanes import lane_schema
from fastfeed.dataset.present import PresentFile, read_present
from fastfeed.errors import CorruptDataError, FastfeedError, FormatVersionError, OriginError
from fastfeed.format.arrow_tail import TAIL_BYTES, open_sealed, seal
from fastfeed.format.layout import Section
from fastfeed.format.reference import ReferenceShard
from fastfeed.format.verify import verify_shard
from tests.helpers.hostile import altered, with_value
from tests.helpers.shard_parts import parts_of
from tests.helpers.small_datasets import LAYOUTS, write_small

EXECUTIONS = 100_000
# Reading a whole small dataset takes milliseconds.
EXECUTION_S_MAX = 10.0
# Beyond what the process has when it begins: nothing in these files is larger than a few KB.
MEMORY_BYTES_MAX = 1 << 30
# What a file may be refused with. OriginError: a path in a manifest became a URL; OSError: one that cannot be opened.
REFUSALS = (CorruptDataError, FormatVersionError, OriginError, OSError)
EDGES = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 1 << 15, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, (1 << 63) - 1, 1 << 63,
         (1 << 64) - 1)  # fmt: skip
TEXT_EDGES = ("", "0", "-1", "1e9", "99999999999999999999", "18446744073709551615", "\0", "é", "[" * 5000, '{"a":1}',
              "null", "-", "=", "x" * 99_999, "../" * 50 + "etc/passwd", "AAAA", '"t"=' + "0" * 32, "\n\n")  # fmt: skip


def edited(data: bytes, draw: random.Random) -> bytes:
    """A few edits, most of them small."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(out) + 1)
        match draw.randrange(7):
            case 0 | 1 if at < len(out):
                out[at] ^= 1 << draw.randrange(8)
            case 2 if at < len(out):
                out[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 3:
                width, code = draw.choice(((2, "<H"), (4, "<I"), (8, "<Q")))
                place = at // width * width
                out[place : place + width] = struct.pack(code, draw.choice(EDGES) % (1 << 8 * width))
            case 4:
                del out[at : at + draw.randint(1, 64)]
            case 5:
                out[at:at] = out[draw.randrange(len(out) + 1) :][: draw.randint(1, 64)]
            case _:
                out[at:] = out[at : at + draw.randint(0, len(out))]
    return bytes(out)


@dataclass(frozen=True)
class Ground:
    """A small dataset in a folder, and its files as they were."""

    place: Path
    manifest_file: Path
    manifest: bytes
    index_file: Path
    index: bytes
    shard_file: Path
    shard: bytes

    @classmethod
    def write(cls, place: Path, name: str) -> Ground:
        write_small(place, name)
        (manifest,) = (place / "_feed" / "manifests").iterdir()
        (index,) = (place / "_feed" / "index").iterdir()
        shard = min((place / "shards").iterdir())
        return cls(place, manifest, manifest.read_bytes(), index, index.read_bytes(), shard, shard.read_bytes())

    def read_all(self) -> None:
        """Everything that reads rows. A sample may be refused; another one is then asked for."""
        dataset = ff.open(self.place)
        rows = range(min(len(dataset), 8))
        for row in rows:
            accepted(lambda row=row: dataset[row])  # type: ignore[misc]
        dataset.take([*rows, len(dataset) - 1])
        for lane in lane_schema(dataset.schema).names[:2]:
            accepted(lambda lane=lane: dataset.lane(lane))  # type: ignore[misc]


def accepted(action: Callable[[], object]) -> bool:
    """Run it; whether it was not refused. Every other error passes."""
    try:
        action()
    except REFUSALS:
        return False
    return True


# --- targets: one execution each; whether the file was accepted ---


def fuzz_manifest(ground: Ground, draw: random.Random) -> bool:
    arrow = ground.manifest[:-TAIL_BYTES]
    match draw.randrange(4):
        case 0:
            hostile = edited(ground.manifest, draw)
        case 1:
            hostile = seal(edited(arrow, draw))
        case 2:
            schema = pa.ipc.open_file(open_sealed(ground.manifest, "")).schema
            key = draw.choice(sorted(schema.metadata)).decode()
            value = schema.metadata[key.encode()].decode()
            text = draw.choice((*TEXT_EDGES, value[: draw.randrange(len(value) + 1)], value * 2,
                                edited(value.encode(), draw).decode("utf-8", "replace"), None))  # fmt: skip
            hostile = altered(ground.manifest, texts={key: text})
        case _:
            schema = pa.ipc.open_file(open_sealed(ground.manifest, "")).schema
            field = draw.choice(list(schema))
            if pa.types.is_integer(field.type):
                change = with_value(draw.choice(EDGES) % (1 << field.type.bit_width), draw.randrange(2))
            elif pa.types.is_string(field.type):
                change = with_value(draw.choice(TEXT_EDGES), draw.randrange(2))  # type: ignore[arg-type]
            else:
                change = with_value(draw.randbytes(16), draw.randrange(2))  # type: ignore[arg-type]
            hostile = altered(ground.manifest, columns={field.name: change})
    ground.manifest_file.write_bytes(hostile)
    try:
        return accepted(ground.read_all)
    finally:
        ground.manifest_file.write_bytes(ground.manifest)


def fuzz_index(ground: Ground, draw: random.Random) -> bool:
    """An index file that lies, named by a manifest that says so."""
    arrow = edited(ground.index[:-TAIL_BYTES], draw)
    if draw.randrange(8):  # mostly of the right length: else its size alone refuses it
        arrow = arrow[: len(ground.index) - TAIL_BYTES].ljust(len(ground.index) - TAIL_BYTES, b"\0")
    digest = xxhash.xxh3_128_hexdigest(arrow)
    index_file = ground.index_file.with_name(f"{digest}.arrow")
    line = f"{digest}.arrow {len(arrow) + TAIL_BYTES} {digest}"
    index_file.write_bytes(seal(arrow))
    ground.manifest_file.write_bytes(altered(ground.manifest, texts={"fastfeed.index_files": line}))
    try:
        return accepted(ground.read_all)
    finally:
        ground.manifest_file.write_bytes(ground.manifest)
        if index_file != ground.index_file:
            index_file.unlink()


def fuzz_shard(ground: Ground, draw: random.Random) -> bool:
    """Header, sections, directory and trailer, with right crcs or without."""
    parts = parts_of(ground.shard)
    match draw.randrange(5):
        case 0 | 1:
            number = draw.randrange(len(parts.sections))
            section_id, content = parts.sections[number]
            parts.sections[number] = (section_id, edited(content, draw))
        case 2:
            header = bytearray(edited(bytes(parts.header[:80]), draw)[:80].ljust(80, b"\0"))
            parts.header[:80] = header
        case 3:
            def lie(entries: list[Section]) -> list[Section]:
                chosen = draw.randrange(len(entries))
                values = [entries[chosen].id, entries[chosen].offset, entries[chosen].bytes, entries[chosen].crc]
                field = draw.randrange(4)
                values[field] = draw.choice(EDGES) % (1 << (32 if field in (0, 3) else 64))
                return [*entries[:chosen], Section(*values), *entries[chosen + 1 :]]

            parts.entries = lie
        case _:
            def spoil(trailer: bytearray) -> None:
                trailer[:60] = edited(bytes(trailer[:60]), draw)[:60].ljust(60, b"\0")

            parts.trailer = spoil
    hostile = parts.build()
    if draw.randrange(4) == 0:
        hostile = edited(hostile, draw)
    ground.shard_file.write_bytes(hostile)
    try:
        findings = list(verify_shard(ground.shard_file))
        good = accepted(lambda: ReferenceShard(ground.shard_file).check())
        # A frame that says more than its crc is refused by the reference reader; verify reads no values.
        if good and findings:
            raise AssertionError(f"the reference reader accepts what verify does not: {findings}")
        accepted(ground.read_all)
        return good
    finally:
        ground.shard_file.write_bytes(ground.shard)


def fuzz_present(ground: Ground, draw: random.Random) -> bool:
    """A bitmap of the rows that were not deleted."""
    bits = edited(draw.randbytes(draw.randrange(1, 40)), draw)
    data = seal(bits) if draw.randrange(4) else edited(seal(bits), draw)
    rows = draw.choice((len(bits) * 8, len(bits) * 8 - draw.randrange(9), draw.choice(EDGES)))
    digest = xxhash.xxh3_128_digest(bits)
    count = sum(byte.bit_count() for byte in bits) if draw.randrange(2) else draw.choice(EDGES)
    file = PresentFile(f"{digest.hex()}.bits", len(data), digest, count)
    return accepted(lambda: read_present(memoryview(data), file, max(0, rows), "bitmap"))


TARGETS = {"manifest": fuzz_manifest, "index": fuzz_index, "shard": fuzz_shard, "present": fuzz_present}


def limit_memory() -> None:
    """From here on the process may take MEMORY_BYTES_MAX more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES_MAX
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def run_target(name: str, grounds: list[Ground], executions: int, seed: int) -> str:
    """A line of what was done; AssertionError, or whatever came out, with the seed of the execution as a note."""
    good, slowest_s = 0, 0.0
    for number in range(executions):
        draw = random.Random(f"{name} {seed} {number}")
        started_s = time.perf_counter()
        try:
            good += TARGETS[name](draw.choice(grounds), draw)
        except (Exception, pa.ArrowException) as error:
            error.add_note(f"{name}: execution {number} of seed {seed}")
            raise
        slowest_s = max(slowest_s, time.perf_counter() - started_s)
        if slowest_s > EXECUTION_S_MAX:
            raise AssertionError(f"{name}: execution {number} of seed {seed} took {slowest_s:.1f} s")
    return f"{name:9} {executions:>9,} executions, {good:,} accepted, slowest {slowest_s * 1000:.0f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(description="Hostile files for the parsers in Python.")
    parser.add_argument("--executions", type=int, default=EXECUTIONS, metavar="N", help="of all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=TARGETS, help="one target")
    options = parser.parse_args()
    names = [options.only] if options.only else list(TARGETS)
    with tempfile.TemporaryDirectory(prefix="parser-fuzz-") as folder:
        grounds = [Ground.write(Path(folder) / name, name) for name in LAYOUTS]
        for ground in grounds:
            ground.read_all()  # everything is imported and warm, so that the limit counts only what files ask for
        limit_memory()
        for name in names:
            try:
                print(run_target(name, grounds, options.executions // len(names), options.seed), flush=True)
            except (FastfeedError, AssertionError, MemoryError, ValueError, TypeError, LookupError, ArithmeticError,
                    AttributeError, OSError, RecursionError, pa.ArrowException):  # fmt: skip
                traceback.print_exc()
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
