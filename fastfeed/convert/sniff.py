"""What bytes are, from how they begin."""

from __future__ import annotations

# Bytes that `is_image` looks at.
HEAD_BYTES = 12


def is_image(content: bytes) -> bool:
    """Whether it begins as a JPEG, a PNG or a WebP does."""
    return (
        content[:3] == b"\xff\xd8\xff"
        or content[:8] == b"\x89PNG\r\n\x1a\n"
        or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")
    )
