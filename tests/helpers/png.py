"""PNG files made by hand: the same bytes everywhere, and kinds that Pillow does not write."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, RGB = 0, 2  # colour types
# Adam7: (first column, first row, column step, row step) of each pass.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png(width: int, height: int, colour: int, interlaced: bool, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, interlaced)
    return SIGNATURE + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def tiny_png(width: int, height: int, gray: int = 0) -> bytes:
    """A gray picture of less than 64 KiB, stored: no compressor whose versions could differ takes part."""
    raw = (b"\0" + bytes([gray]) * width) * height
    lengths = struct.pack("<HH", len(raw), 0xFFFF ^ len(raw))
    stored = b"\x78\x01\x01" + lengths + raw + struct.pack(">I", zlib.adler32(raw))
    return _png(width, height, GRAY, False, stored)


def interlaced_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """`pixels` (uint8 [H, W, 3]) as an interlaced PNG, which Pillow does not write."""
    height, width = pixels.shape[:2]
    lines = [b"\0" + row.tobytes()
             for left, top, across, down in ADAM7 for row in pixels[top::down, left::across] if row.size]
    return _png(width, height, RGB, True, zlib.compress(b"".join(lines)))
