"""Cuts the demo's data: seeded crops of real photographs, in the layout of an image folder.

    DIR/train/<class>/00000.jpg ...   DIR/test/<class>/00000.jpg ...

The photographs are those that scikit-image and scikit-learn carry in their wheels; a class is a photograph.
Training crops come from the left part of each and test crops from the right part, with a gap between them:
no pixel of a test crop was seen in training. The crops have the size of ImageNet's pictures, in pixels and in
bytes, so that reading and decoding them costs what it costs in earnest. The same seed gives the same files.

    python make_photos.py DIR [training crops a class] [test crops a class]
"""

from __future__ import annotations

import hashlib
import io
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import skimage
import sklearn
from PIL import Image

_SKIMAGE = Path(skimage.__file__).parent / "data"
_SKLEARN = Path(sklearn.__file__).parent / "datasets" / "images"
# Every colour photograph of the two wheels, but for the second view of the motorcycle: it is the same scene.
PHOTOGRAPHS = {
    "astronaut": _SKIMAGE / "astronaut.png",
    "cat": _SKIMAGE / "chelsea.png",
    "coffee": _SKIMAGE / "coffee.png",
    "flower": _SKLEARN / "flower.jpg",
    "galaxies": _SKIMAGE / "hubble_deep_field.jpg",
    "motorcycle": _SKIMAGE / "motorcycle_left.png",
    "retina": _SKIMAGE / "retina.jpg",
    "rocket": _SKIMAGE / "rocket.jpg",
    "temple": _SKLEARN / "china.jpg",
    "tissue": _SKIMAGE / "ihc.png",
}
TRAIN_PER_CLASS, TEST_PER_CLASS = 300, 60
SEED = 0

# Shares of a photograph's width: training crops left of the first, test crops right of the second.
TRAIN_UNTIL, TEST_FROM = 0.62, 0.66
# Width and height of the files, drawn per crop: ImageNet's average is about 500 x 400.
SHAPES = ((500, 375), (500, 333), (480, 360), (400, 400), (375, 500))
# A crop's share of the largest box of its shape that fits: enough variety, and enough of the photograph.
SCALE_MIN, SCALE_MAX = 0.5, 1.0
# A crop is enlarged, so it lacks the fine detail of a photograph of its size. Grain brings the bytes
# back: the files have 50 to 90 KB, as ImageNet's have.
GRAIN_LEVELS = 7.0
JPEG_QUALITY = 90


class Box(NamedTuple):
    left: int
    top: int
    right: int
    bottom: int

    def apart_from(self, other: Box) -> bool:
        """No pixel is in both, nor beside one of the other."""
        return (
            self.right < other.left
            or other.right < self.left
            or self.bottom < other.top
            or other.bottom < self.top
        )


def regions(width: int, height: int) -> dict[str, Box]:
    """Where the crops of each split may lie in a photograph."""
    found = {
        "train": Box(0, 0, int(width * TRAIN_UNTIL), height),
        "test": Box(int(width * TEST_FROM), 0, width, height),
    }
    if not found["train"].apart_from(found["test"]):
        raise ValueError(
            f"training and test regions meet in a photograph of {width} x {height} pixels: {found}"
        )
    return found


@cache
def region_of(name: str, split: str) -> Image.Image:
    """One region, cut out before anything is resized: no filter can reach over its edge."""
    photograph = Image.open(PHOTOGRAPHS[name]).convert("RGB")
    return photograph.crop(regions(*photograph.size)[split])


def crop(name: str, split: str, number: int, seed: int = SEED) -> bytes:
    """One crop as a JPEG file; a function of its arguments."""
    key = hashlib.sha256(f"{seed}/{split}/{name}/{number}".encode()).digest()
    draw = random.Random(key)
    region = region_of(name, split)
    width, height = draw.choice(SHAPES)
    fit = min(region.width / width, region.height / height) * draw.uniform(SCALE_MIN, SCALE_MAX)
    left = draw.uniform(0, region.width - width * fit)
    top = draw.uniform(0, region.height - height * fit)
    box = (left, top, left + width * fit, top + height * fit)
    pixels = np.asarray(region.resize((width, height), Image.Resampling.BICUBIC, box=box), dtype=np.float32)
    grain = np.random.default_rng(np.frombuffer(key, np.uint32)).standard_normal(
        (height, width, 1), np.float32
    )
    picture = Image.fromarray(np.clip(pixels + GRAIN_LEVELS * grain + 0.5, 0, 255).astype(np.uint8))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _write_class(folder: Path, name: str, split: str, count: int) -> int:
    target = folder / split / name
    target.mkdir(parents=True, exist_ok=True)
    written_bytes = 0
    for number in range(count):
        data = crop(name, split, number)
        (target / f"{number:05}.jpg").write_bytes(data)
        written_bytes += len(data)
    return written_bytes


def recipe(train_per_class: int, test_per_class: int) -> str:
    """What the files depend on: while it stays the same, they need not be made again."""
    source = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    return f"{source} {train_per_class} {test_per_class}\n"


def make(folder: Path, train_per_class: int = TRAIN_PER_CLASS, test_per_class: int = TEST_PER_CLASS) -> bool:
    """Fill `folder` unless it holds the same files already. Returns whether anything was made."""
    stamp = folder / "recipe.txt"
    wanted = recipe(train_per_class, test_per_class)
    if stamp.exists() and stamp.read_text() == wanted:
        return False
    stamp.unlink(missing_ok=True)
    jobs = [
        (folder, name, split, count)
        for split, count in (("train", train_per_class), ("test", test_per_class))
        for name in PHOTOGRAPHS
    ]
    with ProcessPoolExecutor() as pool:
        written_bytes = sum(pool.map(_write_class, *zip(*jobs, strict=True)))
    files = len(PHOTOGRAPHS) * (train_per_class + test_per_class)
    print(
        f"{files:,} crops of {len(PHOTOGRAPHS)} photographs, {written_bytes / files / 1000:.0f} KB on average"
    )
    stamp.write_text(wanted)
    return True


if __name__ == "__main__":
    make(Path(sys.argv[1]), *map(int, sys.argv[2:]))
