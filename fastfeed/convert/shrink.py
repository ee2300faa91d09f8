"""Images that are larger than asked for, made smaller: --image-size. Needs Pillow, which nothing else here does.

The shorter side becomes `size` pixels; an image whose shorter side is that or less is kept byte for byte. The
result has the format of the original: JPEG and WebP of quality 90, PNG lossless; it is the same for the same
version of Pillow. The rotation that EXIF asks for is carried out, colour profiles are kept, other metadata
goes. Palette and one-bit images are sampled, not averaged: their pixels may be classes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.image_file import describe

if TYPE_CHECKING:
    from PIL import Image

QUALITY = 90
# Pillow refuses more by itself.
PIXELS_MAX = 178_000_000
# Modes that resize and save as they are, per format; others become the first of their kind.
MODES = {"JPEG": ("RGB", "L"), "PNG": ("RGB", "L", "RGBA", "LA", "P", "1"), "WebP": ("RGB", "RGBA")}


def require_pillow() -> None:
    """ConfigError where Pillow is missing."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"--image-size needs Pillow ({error}). Install it: pip install pillow") from error


def shrunken(encoded: memoryview | bytes, size: int) -> bytes | None:
    """The image with a shorter side of `size` pixels; None where it is no larger. CorruptDataError where it
    cannot be decoded.
    """
    from PIL import Image, ImageOps

    about = describe(encoded)
    width, height = about["width"], about["height"]
    if min(width, height) <= size:
        return None
    if width * height > PIXELS_MAX:
        raise CorruptDataError(f"has {width} x {height} pixels; at most {PIXELS_MAX:,} can be made smaller")
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            return resized(ImageOps.exif_transpose(opened), about["encoding"], size)
    except (OSError, SyntaxError, ValueError) as error:
        raise CorruptDataError(f"cannot be decoded to make it smaller: {error}") from error


def resized(image: Image.Image, encoding: str, size: int) -> bytes:
    """The picture at its new size, encoded."""
    from PIL import Image

    shorter = min(image.size)
    target = (image.width * size // shorter, image.height * size // shorter)
    image = image if image.mode in MODES[encoding] else image.convert(plain_mode(image, encoding))
    sampled = image.mode in ("P", "1")
    small = image.resize(target, Image.Resampling.NEAREST if sampled else Image.Resampling.LANCZOS)
    file = io.BytesIO()
    options = {} if encoding == "PNG" else {"quality": QUALITY}
    small.save(file, encoding, icc_profile=image.info.get("icc_profile"), **options)
    return file.getvalue()


def plain_mode(image: Image.Image, encoding: str) -> str:
    """The mode that keeps most of the picture."""
    return "RGBA" if image.has_transparency_data and encoding != "JPEG" else "RGB"
