"""How fast one core decodes photographs of 500 x 375 pixels, beside Pillow: whole, random-resized crop, centre crop.

    python benchmarks/bench_image.py        prints images a second and ratios; contenders take turns
"""

from __future__ import annotations

import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import machine
import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastfeed._native import image
from fastfeed.loader.image import CenterCrop, Decode, RandomResizedCrop, Resize, compile_program
from tests.helpers.photographs import FILES, jpeg, photograph

PHOTO_COUNT = 24
ROUNDS = 7
PROGRAMS = {
    "full": compile_program([Decode()]),
    "random-resized crop 224": compile_program([RandomResizedCrop(224)]),
    "resize 256, centre crop 224": compile_program([Resize(256), CenterCrop(224)]),
}


def photographs() -> list[bytes]:
    """Seeded parts of real photographs, 500 x 375, as JPEGs of quality 90."""
    random = np.random.default_rng(0)
    files = []
    for number in range(PHOTO_COUNT):
        whole = photograph(sorted(FILES)[number % len(FILES)])
        factor = max(1.3, 520 / whole.width, 400 / whole.height)
        large = whole.resize((int(whole.width * factor), int(whole.height * factor)), Image.Resampling.LANCZOS)
        left, top = int(random.integers(0, large.width - 499)), int(random.integers(0, large.height - 374))
        files.append(jpeg(large.crop((left, top, left + 500, top + 375))))
    return files


def decode_native(name: str, files: list[bytes]) -> None:
    for row, file in enumerate(files):
        image.decode(file, PROGRAMS[name], row=row)


def decode_pillow(name: str, files: list[bytes]) -> None:
    for row, file in enumerate(files):
        picture = Image.open(io.BytesIO(file)).convert("RGB")
        if name.startswith("random"):
            top, left, height, width = image.random_resized_crop_box(PROGRAMS[name], 375, 500, 0, 0, 0, row)
            part = (left, top, left + width, top + height)
            picture = picture.crop(part).resize((224, 224), Image.Resampling.BILINEAR)
        elif name.startswith("resize"):
            picture = picture.resize((341, 256), Image.Resampling.BILINEAR).crop((58, 16, 282, 240))
        np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


CONTENDERS: dict[str, Callable[[str, list[bytes]], None]] = {"fastfeed": decode_native, "Pillow": decode_pillow}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("contender", CONTENDERS)
def test_decoding(benchmark, name: str, contender: str) -> None:
    benchmark(CONTENDERS[contender], name, photographs())


def rate(contender: str, name: str, files: list[bytes]) -> float:
    """Images a second of processor time: other processes on the machine count less."""
    start_s = time.process_time()
    CONTENDERS[contender](name, files)
    return len(files) / (time.process_time() - start_s)


def main() -> None:
    files = photographs()
    print(machine.describe("pillow"))
    print(f"{len(files)} JPEGs of 500 x 375, {statistics.mean(map(len, files)) / 1000:.0f} KB on average, one core")
    for name in PROGRAMS:
        rates: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
        for _ in range(ROUNDS):
            for contender, seen in rates.items():
                seen.append(rate(contender, name, files))
        ours, theirs = (statistics.median(seen[1:]) for seen in rates.values())
        print(f"{name}: {ours:.0f} images/s; Pillow {theirs:.0f}; ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
