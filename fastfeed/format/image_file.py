"""Image files one at a time, as a person or a conversion meets them: whether they are whole, what they are, a small
picture of them. Batches of images are the reader's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastfeed._native import image

Buffer = bytes | memoryview

ENCODINGS = {1: "JPEG", 2: "PNG", 3: "WebP"}
RESIZE_EXACT = 2  # ImageProgram.sizing
LAYOUT_HWC = 1  # ImageProgram.layout


def check_structure(encoded: Buffer) -> None:
    """CorruptDataError unless all parts of the file are there: markers, lengths, PNG's checksums. Fast."""
    image.check_structure(encoded)


def check_by_decoding(encoded: Buffer) -> None:
    """CorruptDataError unless all pixels can be decoded. As slow as decoding is."""
    image.decode(encoded, image.ImageProgram())


CHECKS: dict[str, Callable[[Buffer], None]] = {"structure": check_structure, "decode": check_by_decoding}


def describe(encoded: Buffer) -> dict[str, Any]:
    """What the file's header says: encoding, width, height, channels; and its size."""
    info = image.probe(encoded)
    return {
        "encoding": ENCODINGS[info.encoding],
        "width": info.width,
        "height": info.height,
        "channels": info.channels,
        "bytes": len(encoded),
    }


def thumbnail(encoded: Buffer, height: int, width: int) -> npt.NDArray[np.uint8]:
    """The whole picture at exactly this size: uint8 [height, width, 3], RGB."""
    program = image.ImageProgram(sizing=RESIZE_EXACT, out_height=height, out_width=width, layout=LAYOUT_HWC)
    return image.decode(encoded, program)
