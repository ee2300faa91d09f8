"""Images a second into batches: fastfeed.torch.Loader beside a plain DataLoader, over the same files, in one run.

The task is the usual one of image training: JPEG files of about 500 x 375 to random-resized crops of 224 x 224,
flipped half the time, as uint8 batches of 256. The DataLoader decodes with Pillow in worker processes, as a
tutorial has it. Both get the same number of threads or workers, take turns, and are warmed up by one round that
is not counted. A third line is the machine's own limit for whoever decodes whole pictures: Pillow's decoder in as
many processes, with no crop, no batch and nothing sent anywhere.

    python benchmarks/scenario_images.py [--quick] [--data FOLDER] [--rounds 3] [--threads 2]

FOLDER is an image folder; without one, the crops of the demo are used, and made if need be.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import fastfeed as ff
import fastfeed.torch as fft

ROOT = Path(__file__).resolve().parent.parent
DEMO_PHOTOS = ROOT / "demo-data" / "photos"
MAKE_PHOTOS = ROOT / "examples" / "demo" / "make_photos.py"
RESIZE_ATTEMPTS_MAX = 10  # torchvision's


def random_resized_crop(image: Image.Image, size: int, draw: random.Random) -> Image.Image:
    """torchvision's RandomResizedCrop by its definition, with Pillow's resize of a box."""
    width, height = image.size
    for _ in range(RESIZE_ATTEMPTS_MAX):
        area = width * height * draw.uniform(0.08, 1.0)
        ratio = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = draw.randint(0, width - w), draw.randint(0, height - h)
            break
    else:
        w = h = min(width, height)
        left, top = (width - w) // 2, (height - h) // 2
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + w, top + h))


class PillowFiles(Dataset[tuple[torch.Tensor, int]]):
    """The files of an image folder, decoded and cropped one by one."""

    def __init__(self, files: list[Path], size: int) -> None:
        self.files = files
        self.size = size
        names = sorted({file.parent.name for file in files})
        self.labels = [names.index(file.parent.name) for file in files]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        draw = random.Random(torch.randint(2**31, ()).item())
        image = random_resized_crop(Image.open(self.files[index]).convert("RGB"), self.size, draw)
        pixels = np.asarray(image)
        if draw.random() < 0.5:
            pixels = pixels[:, ::-1]
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), self.labels[index]


def plain_loader(files: list[Path], options: argparse.Namespace) -> Iterable[Any]:
    return DataLoader(
        PillowFiles(files, options.size),
        batch_size=options.batch_size,
        shuffle=True,
        num_workers=options.threads,
        persistent_workers=True,
        drop_last=False,
    )


def fastfeed_loader(dataset: Path, options: argparse.Namespace) -> fft.Loader:
    return fft.Loader(
        ff.open(str(dataset)),
        batch_size=options.batch_size,
        columns=["image", "label"],
        transforms={"image": [ff.image.RandomResizedCrop(options.size), ff.image.RandomHorizontalFlip()]},
        last="short",
        threads=options.threads,
    )


def one_epoch(loader: Iterable[Any], images: int, size: int) -> float:
    """Images a second over one epoch, the first batch's wait included. Checks that every image came."""
    seen = 0
    started = time.perf_counter()
    for batch in loader:
        pixels = batch["image"] if isinstance(batch, dict) else batch[0]
        assert pixels.dtype == torch.uint8
        assert tuple(pixels.shape[1:]) == (3, size, size)
        seen += len(pixels)
    elapsed_s = time.perf_counter() - started
    assert seen == images, f"{seen} images came, not {images}"
    return images / elapsed_s


def decode(file: Path) -> int:
    return Image.open(file).convert("RGB").height


def decode_only(pool: Any, files: list[Path]) -> float:
    started = time.perf_counter()
    for _ in pool.imap_unordered(decode, files, chunksize=32):
        pass
    return len(files) / (time.perf_counter() - started)


def measure(files: list[Path], dataset: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """Images a second, per contender and round."""
    plain = plain_loader(files, options)
    with (
        multiprocessing.get_context("fork").Pool(options.threads) as pool,
        fastfeed_loader(dataset, options) as ours,
    ):
        contenders: dict[str, Callable[[], float]] = {
            "plain DataLoader, Pillow": lambda: one_epoch(plain, len(files), options.size),
            "Pillow's decoder alone": lambda: decode_only(pool, files),
            "fastfeed.torch.Loader": lambda: one_epoch(ours, len(files), options.size),
        }
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(options.rounds + 1):
            for name, run in contenders.items():
                rate = run()
                if number > 0:
                    rates[name].append(rate)
    return rates


def report(rates: dict[str, list[float]], files: list[Path], options: argparse.Namespace) -> None:
    mean_kb = statistics.fmean(file.stat().st_size for file in files) / 1000
    print(machine.describe("torch", "pillow", "numpy", "fastfeed"))
    print(
        f"data: {len(files):,} JPEG files, {mean_kb:.1f} KB on average -> RandomResizedCrop({options.size}), "
        f"batches of {options.batch_size}, {options.threads} threads or workers, {options.rounds} rounds"
    )
    base = statistics.median(rates["plain DataLoader, Pillow"])
    for name, values in rates.items():
        middle = statistics.median(values)
        print(
            f"{name:28} {middle:8,.0f} images/s  {middle / base:5.2f} x   ({', '.join(f'{v:,.0f}' for v in values)})"
        )


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="an image folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--quick", action="store_true", help="a small run that shows that it works")
    parser.add_argument("--json", action="store_true", help="print the rates as JSON")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.batch_size = 1, 16
    return options


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="fastfeed-bench-") as scratch:
        if options.data is None:
            folder = Path(scratch) / "photos" if options.quick else DEMO_PHOTOS
            counts = ["4", "1"] if options.quick else []
            subprocess.run([sys.executable, str(MAKE_PHOTOS), str(folder), *counts], check=True)
            options.data = folder / "train"
        dataset = Path(scratch) / "shards"
        subprocess.run(
            [sys.executable, "-m", "fastfeed", "convert", "--quiet", str(options.data), str(dataset)],
            check=True,
        )
        files = sorted(options.data.rglob("*.jpg"))
        rates = measure(files, dataset, options)
    if options.json:
        print(json.dumps(rates))
    else:
        report(rates, files, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
