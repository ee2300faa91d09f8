"""Makes the data that all contenders are measured on, once; every run with the same counts makes the same bytes.

`python benchmarks/scenario_peers.py --prepare` runs it. FOLDER is FASTFEED_BENCH_DATA or
~/.cache/fastfeed-benchmarks/data; the data come into FOLDER/raw:

    images/<class>/<number>.jpg     6,000 crops of photographs, 500 x 375, quality 95, 4:2:0, about 95 KB; the class is
                                    number % 100
    photos2048/<number>.jpg         300 crops of 2048 x 1536, quality 92, 4:2:0
    tokens/tokens.bin               300 M uint16, one a letter of real text
    small/records.bin, offsets.npy  1 M records of 200 to 1,000 bytes, JSON with a number and a piece of text
    mixed/captions.bin, offsets.npy, embeddings.npy
                                    what a sample of `mixed` has beside the image of its number and that one's class:
                                    text of 40 to 400 bytes, 768 float16

QUICK is a fiftieth of it, of photographs and text that need no network.
"""

from __future__ import annotations

import functools
import io
import json
import multiprocessing
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from peers import originals

FOLDER = Path(os.environ.get("FASTFEED_BENCH_DATA", Path.home() / ".cache" / "fastfeed-benchmarks" / "data"))
CLASSES = 100
WINDOW = 2048
EMBEDDING = 768
PROCESSES = 2

IMAGE_SIZE, IMAGE_QUALITY = (500, 375), 95
PHOTO_SIZE, PHOTO_QUALITY = (2048, 1536), 92
# A crop of the sky is no photograph: of so many tries the first one of this size is taken, else the largest.
TRIES, DETAIL_BYTES = 4, 70_000
# A photograph whose crops are smaller than this on average is left out; a photograph is asked by so many crops.
SMOOTH_BYTES, PROBES = 55_000, 6
# How much of a photograph a crop shows, as a multiple of the crop's own size.
ZOOM_MAX = 6.0
# Every fourth picture is upright.
UPRIGHT_SHARE = 0.25

RECORD_BYTES = (200, 1000)
CAPTION_BYTES = (40, 400)


@dataclass(frozen=True, slots=True)
class Counts:
    images: int = 6000
    photos2048: int = 300
    tokens: int = 300_000_000 // WINDOW * WINDOW
    small: int = 1_000_000

    @property
    def mixed(self) -> int:
        return self.images


QUICK = Counts(images=120, photos2048=6, tokens=1000 * WINDOW, small=20_000)

KINDS = ("images", "photos2048", "tokens", "small", "mixed")


def make(folder: Path, counts: Counts, kinds: tuple[str, ...] = KINDS) -> None:
    """Make what is not there yet. A kind is complete when its folder has its name."""
    missing = [kind for kind in kinds if not is_made(folder, kind, counts)]
    if not missing:
        return
    source = originals.small() if counts == QUICK else originals.debian(folder / "originals")
    makers: dict[str, Callable[[Path], None]] = {
        "images": lambda into: images(into, source.photographs, counts.images, SMOOTH_BYTES * (counts != QUICK)),
        "photos2048": lambda into: photos(into, source.photographs, counts.photos2048),
        "tokens": lambda into: tokens(into, source.text, counts.tokens),
        "small": lambda into: records(into, source.text, counts.small),
        "mixed": lambda into: mixed(into, source.text, counts.mixed),
    }
    for kind in missing:
        part, whole = folder / "raw" / f"{kind}.part", folder / "raw" / kind
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        makers[kind](part)
        size = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
        said = {"count": getattr(counts, kind), "bytes": size, **asdict(counts)}
        (part / "made.json").write_text(json.dumps(said))
        shutil.rmtree(whole, ignore_errors=True)
        part.rename(whole)
        print(f"{kind}: {said['count']:,}, {size / 1e6:,.0f} MB", file=sys.stderr, flush=True)


def is_made(folder: Path, kind: str, counts: Counts) -> bool:
    said = folder / "raw" / kind / "made.json"
    return said.exists() and json.loads(said.read_text())["count"] == getattr(counts, kind)


# Pictures. A job is one photograph and the numbers of the crops that come from it: it is decoded once.


def images(folder: Path, photographs: list[Path], count: int, smooth_bytes: int) -> None:
    for number in range(CLASSES):
        (folder / f"{number:03}").mkdir()
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        sizes = pool.map(detail, photographs, chunksize=1)
        detailed = [path for path, size in zip(photographs, sizes, strict=True) if size >= smooth_bytes]
        jobs = [(path, range(first, count, len(detailed))) for first, path in enumerate(detailed)]
        for _ in pool.imap_unordered(functools.partial(cut_images, folder), jobs):
            pass


def photos(folder: Path, photographs: list[Path], count: int) -> None:
    wide = [path for path in photographs if fits(path, PHOTO_SIZE)] or photographs
    jobs = [(path, range(first, count, len(wide))) for first, path in enumerate(wide)]
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        for _ in pool.imap_unordered(functools.partial(cut_photos, folder), jobs):
            pass


def cut_images(folder: Path, job: tuple[Path, range]) -> None:
    pixels = decoded(job[0])
    for number in job[1]:
        draw = random.Random(f"image {number}")
        tries = (image_crop(pixels, draw) for _ in range(TRIES))
        (folder / f"{number % CLASSES:03}" / f"{number:06}.jpg").write_bytes(first_of(tries, DETAIL_BYTES))


def cut_photos(folder: Path, job: tuple[Path, range]) -> None:
    pixels = decoded(job[0])
    for number in job[1]:
        draw = random.Random(f"photo {number}")
        (folder / f"{number:06}.jpg").write_bytes(crop(pixels, PHOTO_SIZE, PHOTO_QUALITY, draw))


def detail(photograph: Path) -> float:
    """Mean bytes of some crops."""
    pixels, draw = decoded(photograph), random.Random(photograph.name)
    return float(np.mean([len(image_crop(pixels, draw)) for _ in range(PROBES)]))


def image_crop(pixels: npt.NDArray[np.uint8], draw: random.Random) -> bytes:
    size = IMAGE_SIZE[::-1] if draw.random() < UPRIGHT_SHARE else IMAGE_SIZE
    return crop(pixels, size, IMAGE_QUALITY, draw)


def crop(pixels: npt.NDArray[np.uint8], size: tuple[int, int], quality: int, draw: random.Random) -> bytes:
    """A JPEG of `size` (width, height) that shows a box of the photograph, made smaller to it."""
    (height, width), (to_width, to_height) = pixels.shape[:2], size
    zoom = draw.uniform(1.0, max(1.01, min(ZOOM_MAX, width / to_width, height / to_height)))
    box_width, box_height = min(width, int(to_width * zoom)), min(height, int(to_height * zoom))
    left, top = draw.randint(0, width - box_width), draw.randint(0, height - box_height)
    box = pixels[top : top + box_height, left : left + box_width]
    file = io.BytesIO()
    Image.fromarray(cv2.resize(box, size, interpolation=cv2.INTER_AREA)).save(
        file, "JPEG", quality=quality, subsampling=2)
    return file.getvalue()


def first_of(tries: Iterator[bytes], wanted_bytes: int) -> bytes:
    best = b""
    for each in tries:
        best = max(best, each, key=len)
        if len(best) >= wanted_bytes:
            break
    return best


def decoded(photograph: Path) -> npt.NDArray[np.uint8]:
    cv2.setNumThreads(1)
    with Image.open(photograph) as image:
        return np.asarray(image.convert("RGB"))


def fits(photograph: Path, size: tuple[int, int]) -> bool:
    with Image.open(photograph) as image:
        return image.width >= size[0] and image.height >= size[1]


# Text.


def tokens(folder: Path, text: npt.NDArray[np.uint8], count: int) -> None:
    np.resize(text, count).astype(np.uint16).tofile(folder / "tokens.bin")


def records(folder: Path, text: npt.NDArray[np.uint8], count: int) -> None:
    rng = np.random.default_rng(3)
    sizes = rng.integers(RECORD_BYTES[0], RECORD_BYTES[1] + 1, count)
    letters = printable(text)
    starts = rng.integers(0, len(letters) - RECORD_BYTES[1], count)
    with open(folder / "records.bin", "wb", 1 << 22) as file:
        for number, (start, size) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
            head = b'{"id":"%07d","text":"' % number
            file.write(head + letters[start : start + size - len(head) - 2] + b'"}')
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(sizes)]))


def mixed(folder: Path, text: npt.NDArray[np.uint8], count: int) -> None:
    rng = np.random.default_rng(4)
    sizes = rng.integers(CAPTION_BYTES[0], CAPTION_BYTES[1] + 1, count)
    letters = printable(text)
    starts = rng.integers(0, len(letters) - CAPTION_BYTES[1], count)
    pieces = [letters[start : start + size] for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)]
    (folder / "captions.bin").write_bytes(b"".join(pieces))
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(sizes)]))
    np.save(folder / "embeddings.npy", rng.standard_normal((count, EMBEDDING), np.float32).astype(np.float16))


def printable(text: npt.NDArray[np.uint8]) -> bytes:
    """As it may stand in a string of JSON without escapes."""
    table = np.arange(256, dtype=np.uint8)
    table[:32] = table[127] = ord(" ")
    table[ord('"')], table[ord("\\")] = ord("'"), ord("/")
    return table[text].tobytes()
