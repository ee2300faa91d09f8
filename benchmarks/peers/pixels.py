"""From a JPEG to the pixels of a sample, as a good user of a loader without a decoder does it: simplejpeg and OpenCV.

Both are what is fastest in Python's world on these files. A crop that is shown smaller than it is may be decoded
smaller: `scaled` asks libjpeg for half, a quarter or an eighth, whose transforms are as vectorised as the whole one's.
"""

from __future__ import annotations

import math
import random
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from peers.workloads import SIDE

cv2.setNumThreads(1)

Pixels = npt.NDArray[np.uint8]
AREA_SHARE = (0.08, 1.0)
LOG_RATIO = (math.log(3 / 4), math.log(4 / 3))
ATTEMPTS_MAX = 10  # torchvision's
# "Resize 256, centre crop 224" shows this share of the shorter side.
CENTER_SHARE = SIDE / 256
# libjpeg-turbo has vectorised transforms for these scales only.
SCALE_MIN = 2


def random_box(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height, width by torchvision's RandomResizedCrop."""
    for _ in range(ATTEMPTS_MAX):
        area, ratio = height * width * random.uniform(*AREA_SHARE), math.exp(random.uniform(*LOG_RATIO))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            return (random.randint(0, height - box_height), random.randint(0, width - box_width),
                    box_height, box_width)
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def center_box(height: int, width: int) -> tuple[int, int, int, int]:
    side = round(min(height, width) * CENTER_SHARE)
    return (height - side) // 2, (width - side) // 2, side, side


def cropped(jpeg: Any, crop: str, scaled: bool) -> Pixels:
    """SIDE x SIDE x 3."""
    box_of = random_box if crop == "random" else center_box
    if scaled:
        height, width = simplejpeg.decode_jpeg_header(jpeg)[:2]
        box = box_of(height, width)
        pixels = simplejpeg.decode_jpeg(jpeg, min_height=math.ceil(height * SIDE / box[2]),
                                        min_width=math.ceil(width * SIDE / box[3]), min_factor=SCALE_MIN)
        scale = pixels.shape[0] / height
        top, left, box_height, box_width = (round(edge * scale) for edge in box)
    else:
        pixels = simplejpeg.decode_jpeg(jpeg)
        top, left, box_height, box_width = box_of(*pixels.shape[:2])
    shown = cv2.resize(pixels[top : top + box_height, left : left + box_width], (SIDE, SIDE),
                       interpolation=cv2.INTER_LINEAR)
    return cv2.flip(shown, 1) if crop == "random" and random.random() < 0.5 else shown


def into_planes(images: list[Pixels], out: Pixels) -> Pixels:
    """Pictures of pixels into n x 3 x SIDE x SIDE; OpenCV does it three times as fast as numpy."""
    for image, planes in zip(images, out, strict=True):
        for channel in range(3):
            cv2.extractChannel(image, channel, planes[channel])
    return out
