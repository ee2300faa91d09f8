"""Real photographs for tests: the colour pictures of the scikit-image and scikit-learn wheels."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import skimage
import sklearn
from PIL import Image

_SKIMAGE = Path(skimage.__file__).parent / "data"
_SKLEARN = Path(sklearn.__file__).parent / "datasets" / "images"
FILES = {
    "astronaut": _SKIMAGE / "astronaut.png",
    "chelsea": _SKIMAGE / "chelsea.png",
    "coffee": _SKIMAGE / "coffee.png",
    "rocket": _SKIMAGE / "rocket.jpg",
    "china": _SKLEARN / "china.jpg",
    "flower": _SKLEARN / "flower.jpg",
}


@cache
def photograph(name: str) -> Image.Image:
    """One picture, RGB, as large as it was shot."""
    return Image.open(FILES[name]).convert("RGB")


def encode(picture: Image.Image | npt.NDArray[np.uint8], **options: Any) -> bytes:
    """The picture (arrays: uint8 [H, W] or [H, W, 3]) as a file; `options` are those of Pillow's `save`."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    """The picture as a baseline JPEG, chroma at half resolution."""
    return encode(image, format="JPEG", quality=quality)


def write_folder(folder: Path, per_class: int = 8, size: tuple[int, int] = (160, 120)) -> Path:
    """An image folder: one class a photograph, `per_class` crops of `size`, the same bytes always."""
    for name in FILES:
        source = photograph(name)
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            left = (source.width - size[0]) * number // max(1, per_class - 1)
            top = (source.height - size[1]) * ((number * 5) % per_class) // max(1, per_class - 1)
            crop = source.crop((left, top, left + size[0], top + size[1]))
            (folder / name / f"{number:03}.jpg").write_bytes(jpeg(crop))
    return folder
