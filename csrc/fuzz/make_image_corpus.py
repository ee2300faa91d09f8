"""Writes the seed corpora of fuzz_image and fuzz_jpeg: small pictures in every form, and broken ones.

Needs Pillow; run as `python csrc/fuzz/make_image_corpus.py`. The results are kept, because encoders change.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from tests.helpers.photographs import encode  # noqa: E402
from tests.helpers.pictures import photographs, with_orientation  # noqa: E402
from tests.helpers.png import interlaced_png  # noqa: E402


def seeds() -> dict[str, bytes]:
    pixels = np.ascontiguousarray(photographs()["chelsea"][120:141, 150:187])
    picture = Image.fromarray(pixels)
    baseline = encode(pixels, format="JPEG", quality=60, subsampling="4:2:0")
    progressive = encode(pixels, format="JPEG", quality=60, progressive=True)
    png = encode(pixels[:12, :13], format="PNG")
    webp = encode(pixels, format="WEBP", quality=50)
    deep = (np.arange(9 * 7, dtype=np.uint16) * 977).reshape(9, 7)
    return {
        "baseline.jpg": baseline,
        "exif.jpg": with_orientation(baseline, 6),
        "progressive.jpg": progressive,
        "restart.jpg": encode(pixels, format="JPEG", quality=60, restart_marker_blocks=2),
        "gray.jpg": encode(picture.convert("L"), format="JPEG", quality=60),
        "cmyk.jpg": encode(picture.convert("CMYK"), format="JPEG", quality=40),
        "rgb.png": png,
        "interlaced.png": interlaced_png(pixels[:9, :11]),
        "palette.png": encode(picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=5), format="PNG",
                              transparency=bytes([0, 9, 255])),
        "deep.png": encode(Image.fromarray(deep), format="PNG"),
        "bits.png": encode(picture.convert("1"), format="PNG"),
        "lossy.webp": webp,
        "lossless.webp": encode(pixels[:12, :13], format="WEBP", lossless=True),
        "alpha.webp": encode(picture.convert("RGBA"), format="WEBP", quality=40),
        "truncated.jpg": baseline[: len(baseline) // 2],
        "truncated-progressive.jpg": progressive[:-9],
        "truncated.png": png[: len(png) // 2],
        "truncated.webp": webp[: len(webp) // 2],
        "header-only.jpg": baseline[:30],
    }


def jpeg_seeds() -> dict[str, bytes]:
    """What our own decoder knows, and a little that it does not."""
    pixels = np.ascontiguousarray(photographs()["chelsea"][120:141, 150:187])
    shared = {name: content for name, content in seeds().items()
              if name in ("baseline.jpg", "restart.jpg", "gray.jpg", "progressive.jpg", "truncated.jpg")}
    return shared | {
        "444.jpg": encode(pixels, format="JPEG", quality=95, subsampling="4:4:4"),
        "422.jpg": encode(pixels, format="JPEG", quality=70, subsampling="4:2:2", optimize=True),
    }


if __name__ == "__main__":
    for target, made in (("image", seeds()), ("jpeg", jpeg_seeds())):
        for name, content in made.items():
            (HERE / "corpus" / target / name).write_bytes(content)
