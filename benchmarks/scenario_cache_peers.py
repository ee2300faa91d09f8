"""A cold and a second epoch over the network beside five peers: the same samples, origin, machine, cores and batches.

Each contender stores the samples in its own format, nginx serves all of them from this machine, and each reads two
epochs, shuffled, in a fresh process with an empty cache: the first fills it, the second may use it. They take turns.
A batch is the samples' bytes as they were stored; nothing is decoded. A sample that came twice or never ends the run,
and one more round, untimed, compares every byte.

    python benchmarks/scenario_cache_peers.py [--rounds 3] [--samples 5000] [--rate 200MB --delay-ms 20] [--peers a,b]
    python benchmarks/scenario_cache_peers.py --setup       an environment for each peer, once (minutes, 1 GB each)

--rate and --delay-ms put a line before the origin (line.py); without them it is as fast as loopback is. Contenders:

    fastfeed     the node's cache, window shuffle (the default), 2 threads
    mosaic       MosaicML Streaming, 2 workers, its default shuffle. No HTTP: it reads S3 by boto3, which nginx answers
    litdata      LitData, 2 workers. S3 too. Its shuffle goes chunk by chunk, which is kind to its cache
    webdataset   tars, cache_dir, 2 workers, a buffer of 1,000 samples
    hf           datasets in streaming mode over Parquet, 2 workers, a buffer of 1,000. Nothing is kept for epoch 2
    juicefs      a file a sample on JuiceFS (SQLite metadata, cache on), DataLoader with 2 workers, a true shuffle
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import http_origin
import machine
from peers.environments import interpreter, set_up

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "peers" / "remote"
RUN_S_MAX = 600
END_S_MAX = 40.0


@dataclass(frozen=True, slots=True)
class Peer:
    program: str
    scheme: str = "http"


PEERS = {
    "fastfeed": Peer("ours.py"),
    "mosaic": Peer("mosaic.py", "s3"),
    "litdata": Peer("lit.py", "s3"),
    "webdataset": Peer("wds.py"),
    "hf": Peer("hf.py"),
    "juicefs": Peer("juicefs.py"),
}


def run(name: str, arguments: Sequence[str], port: int = 0, runtime: Path | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROGRAMS), str(HERE.parent)]),
                   "S3_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "none",
                   "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1", "HF_HUB_OFFLINE": "1",
                   "OMP_NUM_THREADS": "1", **({"FASTFEED_RUNTIME_DIR": str(runtime)} if runtime else {})}
    done = subprocess.run([interpreter(name), str(PROGRAMS / PEERS[name].program), *arguments],
                          env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                          timeout=RUN_S_MAX)
    if done.returncode:
        raise SystemExit(f"{name} {arguments[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


@contextlib.contextmanager
def runtime_folder() -> Iterator[Path]:
    """Where our own daemon runs, in RAM; it is ended and the folder removed."""
    with tempfile.TemporaryDirectory(prefix="fastfeed-bench-", dir="/dev/shm") as folder:
        try:
            yield Path(folder)
        finally:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # there was none, or it has left
                pid = int((Path(folder) / "daemon.lock").read_text())
                os.kill(pid, signal.SIGTERM)
                deadline = time.monotonic() + END_S_MAX
                while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                    time.sleep(0.01)


def two_epochs(name: str, url: str, data: Path, cache: Path, options: argparse.Namespace, check: bool) -> list[dict]:
    port = int(url.rsplit(":", 1)[1])
    base = f"s3://bench/{name}" if PEERS[name].scheme == "s3" else f"{url}/bench/{name}"
    with runtime_folder() as runtime:
        said = run(name, ["read", base, str(cache), str(options.samples), "check" if check else "count",
                          str(data / "bench" / name)], port, runtime)
    shutil.rmtree(cache, ignore_errors=True)
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def measure(names: Sequence[str], options: argparse.Namespace, scratch: Path) -> dict[str, list[list[dict]]]:
    data = options.data or scratch / "data"
    for name in names:
        if not (place := data / "bench" / name).exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            run(name, ["write", str(place), str(options.samples)])
    found: dict[str, list[list[dict]]] = {name: [] for name in names}
    with http_origin.origin(data, scratch / "nginx", options.rate * 1e6, options.delay_ms / 1e3) as url:
        for number in range(options.rounds + 1):
            for name in names:
                epochs = two_epochs(name, url, data, scratch / "cache", options, check=number == 0)
                if number:
                    found[name].append(epochs)
                print(f"round {number} {name:11}" + "".join(f"  {epoch['s']:6.2f} s" for epoch in epochs),
                      file=sys.stderr, flush=True)
    return found


def report(found: dict[str, list[list[dict]]], options: argparse.Namespace) -> None:
    print(machine.describe("torch", "numpy"))
    line = f"a line of {options.rate:.0f} MB/s" if options.rate else "loopback without a limit"
    size = next(iter(found.values()))[0][0]["bytes"]
    print(f"{options.samples:,} samples, {size / 1e9:.2f} GB, from nginx over {line}, {options.delay_ms:.0f} ms; "
          f"2 workers or threads; medians of {options.rounds} rounds; every byte compared in one more")
    print("| contender | epoch 1, MB/s | first batch, s | epoch 2, MB/s | of fastfeed, 1 / 2 |\n|---|---|---|---|---|")
    rates = {name: [statistics.median(epochs[k]["bytes"] / epochs[k]["s"] / 1e6 for epochs in rounds) for k in (0, 1)]
             for name, rounds in found.items()}
    base = rates.get("fastfeed", next(iter(rates.values())))
    for name, (cold, warm) in rates.items():
        first = statistics.median(epochs[0]["first_s"] for epochs in found[name])
        print(f"| {name} | {cold:,.0f} | {first:.2f} | {warm:,.0f} | {cold / base[0]:.2f} / {warm / base[1]:.2f} |")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=5000, help="of 100 KB each")
    parser.add_argument("--rate", type=lambda text: float(text.removesuffix("MB")), default=0.0, help="MB/s")
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--data", type=Path, help="keeps what was written between runs (of the same --samples)")
    parser.add_argument("--quick", action="store_true", help="a small run that shows that it works")
    parser.add_argument("--setup", action="store_true", help="make the peers' environments, and end")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.samples = 1, 300
    return options


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    names = options.peers.split(",")
    if unknown := set(names) - set(PEERS):
        raise SystemExit(f"no such contender: {', '.join(sorted(unknown))}. There are: {', '.join(PEERS)}.")
    if options.setup:
        set_up(names)
        return 0
    with tempfile.TemporaryDirectory(prefix="fastfeed-bench-") as scratch:
        found = measure(names, options, Path(scratch))
    if options.json:
        print(json.dumps(found))
    else:
        report(found, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
