"""Converting: fastfeed beside Lance and WebDataset, over the same input, in one run, and beside the disk itself.

Two kinds of work: JPEG files of about 95 KB in class folders, and Parquet with records of 600 random bytes. Each
contender does as its documentation has it: Lance streams record batches into one dataset with threads of its own,
WebDataset writes tars with as many processes as fastfeed has workers. They take turns, each round into an empty folder.
fastfeed checks every image and waits until all of it is on disk; the peers do neither, and are not made to.
"disk" is one file of as many bytes as the input has, written in pieces of 8 MiB and fsynced: nobody who makes things
durable can be faster.

    python benchmarks/scenario_convert.py [--quick] [--rounds 3] [--workers 2] [--images 6000] [--records 1000000]
    python benchmarks/scenario_convert.py --memory 3GB      peak memory of each worker, of a command of its own

--data FOLDER keeps the input between runs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import convert_data
import machine
import pyarrow as pa
import pyarrow.dataset as pads

from fastfeed.convert.job import ConvertOptions, convert
from fastfeed.format.sizes import parse_size

# Peer -> the package that has to be installed for it; who is not asked for need not be.
PACKAGES = {"lance": "pylance", "webdataset": "webdataset"}
DISK_PIECE_BYTES = 8 << 20
# Images that Lance's reader makes a record batch of.
LANCE_IMAGES_A_BATCH = 250
# How often the memory of a conversion is looked at.
MEMORY_INTERVAL_S = 0.02
# What a worker may need, whatever the input is: with 16 workers, a quarter of a small machine.
MEMORY_MAX_BYTES = 256 << 20


Contender: TypeAlias = Callable[[Path, Path, int], None]

# --- the contenders: each writes the input at `source` into the folder `target`, which does not exist yet ---


def with_fastfeed(source: Path, target: Path, workers: int) -> None:
    convert(ConvertOptions(source=str(source), destination=str(target), workers=workers))


def image_batches(files: list[Path], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(files), LANCE_IMAGES_A_BATCH):
        group = files[start : start + LANCE_IMAGES_A_BATCH]
        columns = [
            pa.array([file.read_bytes() for file in group], pa.large_binary()),
            pa.array([int(file.parent.name) for file in group], pa.int64()),
        ]
        yield pa.record_batch(columns, schema=schema)


def images_with_lance(source: Path, target: Path, workers: int) -> None:
    import lance

    schema = pa.schema([("image", pa.large_binary()), ("label", pa.int64())])
    batches = image_batches(sorted(source.rglob("*.jpg")), schema)
    lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches), str(target), schema=schema)


def records_with_lance(source: Path, target: Path, workers: int) -> None:
    import lance

    lance.write_dataset(pads.dataset(source).scanner().to_reader(), str(target))


def images_of(files: list[Path]) -> Iterator[dict[str, object]]:
    for file in files:
        yield {"__key__": file.stem, "jpg": file.read_bytes(), "cls": int(file.parent.name)}


def records_of(files: list[Path]) -> Iterator[dict[str, object]]:
    for batch in pads.dataset([str(file) for file in files]).to_batches():
        for number, value in zip(batch.column("id").to_pylist(), batch.column("record").to_pylist(), strict=True):
            yield {"__key__": f"{number:08}", "bin": value}


def write_tars(samples: Callable[[list[Path]], Iterator[dict[str, object]]], files: list[Path], pattern: str) -> None:
    import webdataset

    with webdataset.ShardWriter(pattern, maxcount=1 << 40, maxsize=256 << 20, verbose=0) as tars:
        for sample in samples(files):
            tars.write(sample)


class WebDatasetPool:
    """Processes that write tars, started before anything is measured: their imports take seconds. None for 0."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        spawn = multiprocessing.get_context("spawn")
        self._pool = spawn.Pool(workers, importlib.import_module, ("webdataset",)) if workers else None
        if self._pool is not None:
            self._pool.map(len, ["one for each"] * workers, chunksize=1)

    def images(self, source: Path, target: Path, workers: int) -> None:
        self._write(images_of, sorted(source.rglob("*.jpg")), target)

    def records(self, source: Path, target: Path, workers: int) -> None:
        self._write(records_of, sorted(source.glob("*.parquet")), target)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()

    def _write(
        self, samples: Callable[[list[Path]], Iterator[dict[str, object]]], files: list[Path], target: Path
    ) -> None:
        target.mkdir(parents=True)
        count = self._workers
        parts = [files[number * len(files) // count : (number + 1) * len(files) // count] for number in range(count)]
        jobs = [(samples, part, str(target / f"{number}-%05d.tar")) for number, part in enumerate(parts) if part]
        assert self._pool is not None, "webdataset was not among the peers"
        self._pool.starmap(write_tars, jobs, chunksize=1)


def contenders(peers: list[str], **known: Contender) -> dict[str, Contender]:
    """Ourselves and those of the peers that were asked for."""
    return {"fastfeed": with_fastfeed, **{peer: known[peer] for peer in peers}}


# --- measuring ---


@dataclass(frozen=True)
class Work:
    """One kind of input and who converts it."""

    name: str
    source: Path
    samples: int
    payload_bytes: int
    contenders: dict[str, Contender]


@dataclass
class Rates:
    """Samples a second of each contender, and bytes a second of the disk, by round."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    disk: list[float] = field(default_factory=list)


def disk_rate(folder: Path, size_bytes: int) -> float:
    """Bytes a second of writing and fsyncing a new file."""
    piece = os.urandom(min(DISK_PIECE_BYTES, size_bytes))
    path = folder / "disk"
    started = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        left = size_bytes
        while left > 0:
            left -= file.write(piece[: min(left, len(piece))])
        os.fsync(file.fileno())
    elapsed_s = time.perf_counter() - started
    path.unlink()
    return size_bytes / elapsed_s


def measure(work: Work, scratch: Path, rounds: int, workers: int) -> Rates:
    """Everybody takes turns; the round before the first warms up the input's cache and is not counted."""
    rates = Rates({name: [] for name in work.contenders})
    for number in range(rounds + 1):
        for name, run in work.contenders.items():
            target = scratch / "target"
            os.sync()  # nobody pays for what the one before has left to write
            started = time.perf_counter()
            run(work.source, target, workers)
            elapsed_s = time.perf_counter() - started
            shutil.rmtree(target)
            if number > 0:
                rates.samples[name].append(work.samples / elapsed_s)
        os.sync()
        rate = disk_rate(scratch, work.payload_bytes)
        if number > 0:
            rates.disk.append(rate)
    return rates


def report(work: Work, rates: Rates, workers: int) -> None:
    mean_bytes = work.payload_bytes / work.samples
    print(f"{work.name}: {work.samples:,} of {mean_bytes:,.0f} bytes, {workers} workers, median of rounds")
    disk = statistics.median(rates.disk)
    ours = statistics.median(rates.samples["fastfeed"])
    for name, values in rates.samples.items():
        middle = statistics.median(values)
        print(
            f"  {name:12} {middle:12,.0f} /s  {middle * mean_bytes / 1e6:7,.0f} MB/s   "
            f"fastfeed is {ours / middle:5.2f} x   ({', '.join(f'{value:,.0f}' for value in values)})"
        )
    print(
        f"  {'disk':12} {disk / mean_bytes:12,.0f} /s  {disk / 1e6:7,.0f} MB/s   fastfeed is "
        f"{ours * mean_bytes / disk:5.2f} x   ({', '.join(f'{value / mean_bytes:,.0f}' for value in rates.disk)})"
    )


# --- memory ---


@dataclass
class Peak:
    """The most memory that one process was seen to have."""

    role: str
    pss_bytes: int = 0
    rss_bytes: int = 0


def peaks_of(command: list[str]) -> list[Peak]:
    """Run a conversion; the peaks of its processes: the command itself and its workers."""
    peaks: dict[int, Peak] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        while True:
            for pid in group_of(process.pid):
                look_at(pid, peaks, process.pid)
            try:
                process.wait(MEMORY_INTERVAL_S)
                break
            except subprocess.TimeoutExpired:
                continue
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return list(peaks.values())


def group_of(leader: int) -> list[int]:
    """The processes of a process group."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and os.getpgid(int(folder.name)) == leader:
                found.append(int(folder.name))
        except ProcessLookupError:
            continue
    return found


def look_at(pid: int, peaks: dict[int, Peak], leader: int) -> None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return  # it has just ended
    sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines[1:]}
    peak = peaks.setdefault(pid, Peak("command" if pid == leader else "process"))
    peak.pss_bytes = max(peak.pss_bytes, sizes.get("Pss", 0))
    peak.rss_bytes = max(peak.rss_bytes, sizes.get("Rss", 0))


def report_memory(name: str, source: Path, target: Path, workers: int) -> bool:
    """Convert by the command, print what its processes had at most, and say whether all stay within the limit."""
    command = [sys.executable, "-m", "fastfeed", "convert", str(source), str(target), "--workers", str(workers)]
    peaks = peaks_of([*command, "--quiet"])
    shutil.rmtree(target)
    for peak in sorted(peaks, key=lambda each: each.pss_bytes):
        print(
            f"  {name:8} {peak.role:8} peak PSS {peak.pss_bytes / 2**20:6.1f} MiB   "
            f"RSS {peak.rss_bytes / 2**20:6.1f} MiB"
        )
    return all(peak.pss_bytes <= MEMORY_MAX_BYTES for peak in peaks)


def memory(scratch: Path, kinds: list[str], size_bytes: int, workers: int) -> int:
    print(machine.describe("pyarrow"))
    print(f"memory of conversions of {size_bytes / 1e9:.1f} GB with {workers} workers, one process a line")
    within = []
    for name in kinds:
        source = convert_data.MAKERS[name](scratch / name, size_bytes)
        within.append(report_memory(name, source, scratch / "target", workers))
        shutil.rmtree(scratch / name)
    print(f"limit: {MEMORY_MAX_BYTES >> 20} MiB of PSS a process: {'kept' if all(within) else 'BROKEN'}")
    return 0 if all(within) else 1


# --- the command ---


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, default=6_000)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--peers", nargs="*", default=list(PACKAGES), choices=list(PACKAGES), help="who runs beside")
    parser.add_argument("--data", type=Path, help="where the input is kept, or made")
    parser.add_argument("--memory", metavar="SIZE", help="measure memory on inputs of this size instead")
    known = list(convert_data.MAKERS)
    parser.add_argument("--kinds", nargs="+", default=known, choices=known, help="the inputs of --memory")
    parser.add_argument("--quick", action="store_true", help="a small run that shows that it works")
    parser.add_argument("--json", action="store_true", help="print the rates as JSON")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.images, options.records = 1, 40, 4_000
    return options


def compare(options: argparse.Namespace, scratch: Path, tars: WebDatasetPool) -> None:
    """Measure everybody on both kinds of work, and print it."""
    data = options.data or scratch
    images = convert_data.images(data / f"images-{options.images}", options.images)
    records = convert_data.records(data / f"records-{options.records}", options.records)
    works = [
        Work(
            "images",
            images,
            options.images,
            sum(file.stat().st_size for file in images.rglob("*.jpg")),
            contenders(options.peers, lance=images_with_lance, webdataset=tars.images),
        ),
        Work(
            "records",
            records,
            options.records,
            options.records * convert_data.RECORD_BYTES,
            contenders(options.peers, lance=records_with_lance, webdataset=tars.records),
        ),
    ]
    if not options.json:
        print(machine.describe(*(PACKAGES[peer] for peer in options.peers), "pyarrow"))
    found = {}
    for work in works:
        rates = measure(work, scratch, options.rounds, options.workers)
        if not options.json:
            report(work, rates, options.workers)
        found[work.name] = {**rates.samples, "disk": [rate * work.samples / work.payload_bytes for rate in rates.disk]}
    if options.json:
        print(json.dumps(found))


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    with tempfile.TemporaryDirectory(prefix="fastfeed-bench-", dir=options.data) as folder:
        if options.memory:
            return memory(Path(folder), options.kinds, parse_size(options.memory), options.workers)
        with closing(WebDatasetPool(options.workers if "webdataset" in options.peers else 0)) as tars:
            compare(options, Path(folder), tars)
    return 0


if __name__ == "__main__":
    sys.exit(main())
