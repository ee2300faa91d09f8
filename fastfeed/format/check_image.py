"""Whether the bytes of an image file are whole: what a conversion asks before it keeps them."""

from __future__ import annotations

from collections.abc import Callable

from fastfeed._native import image

Buffer = bytes | memoryview


def check_structure(encoded: Buffer) -> None:
    """CorruptDataError unless all parts of the file are there: markers, lengths, PNG's checksums. Fast."""
    image.check_structure(encoded)


def check_by_decoding(encoded: Buffer) -> None:
    """CorruptDataError unless all pixels can be decoded. As slow as decoding is."""
    image.decode(encoded, image.ImageProgram())


CHECKS: dict[str, Callable[[Buffer], None]] = {"structure": check_structure, "decode": check_by_decoding}
