"""Real photographs and the ways to encode them, and the plain-Python oracle of crops and flips (docs/transforms.md)."""

from __future__ import annotations

import io
import math
import struct
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.helpers.photographs import photograph

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
Pixels = npt.NDArray[np.uint8]

# Name -> how Pillow saves it. Quality, subsampling, restart markers and scans change what a decoder does.
ENCODINGS: dict[str, dict[str, Any]] = {
    "jpeg-444": {"format": "JPEG", "quality": 92, "subsampling": "4:4:4"},
    "jpeg-422": {"format": "JPEG", "quality": 80, "subsampling": "4:2:2"},
    "jpeg-420": {"format": "JPEG", "quality": 95, "subsampling": "4:2:0"},
    "jpeg-411": {"format": "JPEG", "quality": 70, "subsampling": "4:1:1"},
    "jpeg-progressive": {"format": "JPEG", "quality": 85, "subsampling": "4:2:0", "progressive": True},
    "jpeg-restart": {"format": "JPEG", "quality": 85, "subsampling": "4:2:0", "restart_marker_blocks": 7},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "quality": 80},
    "webp-lossless": {"format": "WEBP", "lossless": True, "method": 0},
}


@cache
def photographs() -> dict[str, Pixels]:
    """Photographs as pixels, and odd-sized parts of them."""
    astronaut, chelsea, coffee = (np.asarray(photograph(name)) for name in ("astronaut", "chelsea", "coffee"))
    return {"astronaut": astronaut, "chelsea": chelsea, "coffee": coffee, "small": chelsea[100:133, 90:141],
            "odd": coffee[11:264, 37:350]}


def pillow(encoded: bytes) -> Image.Image:
    return Image.open(io.BytesIO(encoded)).convert("RGB")


def crop_and_resize(image: Image.Image, box: tuple[int, int, int, int], size: tuple[int, int]) -> Pixels:
    """Pillow's: `box` is (top, left, height, width), `size` (height, width); uint8 [3, height, width]."""
    top, left, height, width = box
    part = image.crop((left, top, left + width, top + height))
    resized = part.resize((size[1], size[0]), Image.Resampling.BILINEAR, reducing_gap=None)
    return np.asarray(resized).transpose(2, 0, 1)


def with_orientation(jpeg: bytes, orientation: int, order: str = "<") -> bytes:
    """`jpeg` with an EXIF segment after its first two bytes."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    tiff = magic + struct.pack(order + "IHHHIHH", 8, 1, 0x0112, 3, 1, orientation, 0) + bytes(4)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def difference(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Mean absolute difference a value."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).mean())


def _mix(value: int) -> int:
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & MASK
    return value ^ (value >> 31)


def sample_bits(seed: int, epoch: int, position: int, row: int, index: int) -> int:
    state = 0
    for part in (seed, epoch, position, row):
        state = _mix(((state ^ part) + GOLDEN) & MASK)
    return _mix((state + (index + 1) * GOLDEN) & MASK)


def sample_unit(*key_and_index: int) -> float:
    return (sample_bits(*key_and_index) >> 11) * 2.0**-53


def random_resized_crop_box(key: tuple[int, int, int, int], height: int, width: int, scale: tuple[float, float],
                            ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """torchvision's RandomResizedCrop.get_params, with the draws of `key`."""
    log_ratio = (math.log(ratio[0]), math.log(ratio[1]))
    for attempt in range(10):
        draw = 4 * attempt + 1
        area = height * width * (scale[0] + (scale[1] - scale[0]) * sample_unit(*key, draw))
        aspect = math.exp(log_ratio[0] + (log_ratio[1] - log_ratio[0]) * sample_unit(*key, draw + 1))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = sample_bits(*key, draw + 2) * (height - h + 1) >> 64
            left = sample_bits(*key, draw + 3) * (width - w + 1) >> 64
            return top, left, h, w
    w, h = width, height
    if width / height < min(ratio):
        h = round(w / min(ratio))
    elif width / height > max(ratio):
        w = round(h * max(ratio))
    return (height - h) // 2, (width - w) // 2, h, w
