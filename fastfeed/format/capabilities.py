"""What the native core can do on this machine, tried and not assumed."""

from __future__ import annotations

import base64

import numpy as np

from fastfeed._native import checksum, frames, image
from fastfeed._native.feed import io_uring_refusal
from fastfeed.errors import FastfeedError

# One gray pixel in each encoding: decoding them shows that the codec is there and works.
TINY_IMAGES = {
    "JPEG": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRT"
        "c4UG1RV19iZ2hnPk1xeXBkeFxlZ2P/wAALCAABAAEBAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL"
        "/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJi"
        "coKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ip"
        "qrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEBAAA/ACv/2Q=="
    ),
    "PNG": ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="),
    "WebP": ("UklGRiQAAABXRUJQVlA4IBgAAABQAQCdASoBAAEAAUAmJaQABHQAAORAAAA="),
}


def crc32c_implementation() -> str:
    """Which crc32c was chosen for this CPU."""
    return checksum.implementation()


def codec_outcomes() -> dict[str, str]:
    """Codec -> "works", or what it says when it is tried."""
    found = {name: image_outcome(base64.b64decode(text)) for name, text in TINY_IMAGES.items()}
    return {**found, "zstd": zstd_outcome()}


def image_outcome(encoded: bytes) -> str:
    """What decoding one image says: "works", or why not."""
    try:
        image.decode(encoded, image.ImageProgram())
    except FastfeedError as error:
        return f"fails: {error}"
    return "works"


def zstd_outcome() -> str:
    """What compressing and decompressing says: "works", or why not."""
    value = b"fastfeed " * 16
    try:
        stored, _ = frames.ZstdEncoder().encode(value, np.array([0, len(value)], dtype=np.int64))
        came_back = frames.ZstdDecoder().decode(stored, len(value))
    except FastfeedError as error:
        return f"fails: {error}"
    return "works" if came_back == value else "fails: gives other bytes than it got"


def io_uring_state() -> str:
    """ "available", or why not. Reads a file with it: versions and sysctls do not tell."""
    return io_uring_refusal() or "available"
