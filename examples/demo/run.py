"""`make demo`: from photographs to a trained network.

1. Cut real photographs into an image folder (make_photos.py; only the first time).
2. `fastfeed convert`, `info` and `verify`, the commands that a user types.
3. Serve the shards by HTTP (origin.py), and train a small network through `fastfeed.torch.Loader` and the node's cache
   (cache.py, train.py): the first epoch is cold, the others are warm.
4. Say how good it got, and where the time went.

Exit code 1 if the network is not at least three times as good as guessing.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cache
import make_photos
import train

TIMES_CHANCE_MIN = 3


def command(*arguments: str) -> None:
    """Run one fastfeed command as a user would, and show it."""
    print(f"\n$ fastfeed {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "fastfeed", *arguments], check=True)


def convert(photos: Path, dataset: Path) -> None:
    # Made anew each time: it takes seconds, and is a part of what the demo shows.
    shutil.rmtree(dataset, ignore_errors=True)
    command("convert", str(photos), str(dataset), "--shard-size", "64MiB")


def report(result: train.Result) -> None:
    feeding = result.feeding
    print(f"\ntest accuracy   {result.accuracy:.1%} (chance: {result.chance:.1%})")
    print(f"images/s        {feeding.images_per_s:,.0f}")
    print("epoch      images/s  waited in all  for the first batch  from the cache's disk  from memory as it came")
    for number, epoch in enumerate(result.epochs):
        print(f"{number + 1} ({'warm' if number else 'cold'})  {epoch.images_per_s:9,.0f}  {epoch.wait_s:11.2f} s"
              f"  {1000 * epoch.first_wait_s:16.0f} ms  {epoch.slab_bytes / 1e6:18.1f} MB"
              f"  {epoch.ring_bytes / 1e6:20.1f} MB")  # fmt: skip
    print(f"exposed wait    p50 {feeding.wait_ms(50):.1f} ms, p95 {feeding.wait_ms(95):.1f} ms per step")
    total_s = feeding.total_s
    print(f"where the time went, of {total_s:.1f} s in {len(feeding.wait_s)} steps:")
    print(f"  compute       {feeding.compute_s:6.1f} s  {feeding.compute_s / total_s:4.0%}")
    print(f"  exposed wait  {sum(feeding.wait_s):6.1f} s  {sum(feeding.wait_s) / total_s:4.0%}")
    print("  beside it, in the loader's threads: ", end="")
    print(", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in feeding.stage_s.items()))


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="From photographs to a trained network, with fastfeed.")
    parser.add_argument("--dir", type=Path, default=Path("demo-data"), help="where everything is put")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--train-per-class", type=int, default=make_photos.TRAIN_PER_CLASS)
    parser.add_argument("--test-per-class", type=int, default=make_photos.TEST_PER_CLASS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    started = time.monotonic()
    photos, shards = options.dir / "photos", options.dir / "shards"
    if not make_photos.make(photos, options.train_per_class, options.test_per_class):
        print(f"photographs: the crops in {photos} are as they should be")
    for split in ("train", "test"):
        convert(photos / split, shards / split)
    command("info", str(shards / "train"))
    command("verify", str(shards / "train"))
    command("verify", str(shards / "test"))
    with cache.embedded_cache(options.dir / "cache"), cache.origin(shards) as url:
        print(f"\ntraining from {url}", flush=True)
        result = train.run(f"{url}/train", f"{url}/test", options.epochs)
        report(result)
        print("\n$ fastfeed cache status")
        print(cache.fastfeed("cache", "status", "--socket", cache.socket()), flush=True)
    print(f"total           {time.monotonic() - started:.0f} s")
    if result.accuracy < TIMES_CHANCE_MIN * result.chance:
        print(f"the test accuracy is below {TIMES_CHANCE_MIN} x chance", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
