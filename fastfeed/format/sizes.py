"""Sizes as people write them: 268435456, "256MiB", "500gb", "1.5 GB".

Binary units (KiB, MiB …) are powers of 1024 and decimal ones (KB, MB …) powers of 1000, as they are written;
upper and lower case are the same. Imports nothing of ours but the errors.
"""

from __future__ import annotations

import re
from fractions import Fraction

from fastfeed.errors import ConfigError

_UNIT_BYTES = {
    "": 1,
    "b": 1,
    "k": 1000,
    "kb": 1000,
    "kib": 1024,
    "m": 1000**2,
    "mb": 1000**2,
    "mib": 1024**2,
    "g": 1000**3,
    "gb": 1000**3,
    "gib": 1024**3,
    "t": 1000**4,
    "tb": 1000**4,
    "tib": 1024**4,
}
_BINARY_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", re.ASCII | re.IGNORECASE)
# 2^63 - 1: what a file's offset can be.
SIZE_BYTES_MAX = (1 << 63) - 1
# Below this a shard is mostly header and sections.
SHARD_BYTES_MIN = 64 << 10
# The payload's limit (docs/format.md, section 7), less room for one last large frame.
SHARD_BYTES_MAX = 16 << 30


def parse_size(size: str | int, name: str = "size") -> int:
    """Return `size` in bytes, a whole number above 0. ConfigError calls the argument `name`."""
    if isinstance(size, bool) or not isinstance(size, (str, int)):
        raise ConfigError(f"{name}={size!r} is a {type(size).__name__}: give bytes as an int, or text like '256MiB'.")
    if isinstance(size, int):
        size_bytes = size
    else:
        match = _SIZE.fullmatch(size.strip())
        unit_bytes = _UNIT_BYTES.get(match[2].lower()) if match else None
        if match is None or unit_bytes is None:
            raise ConfigError(
                f"{name}={size!r} is not a size: write bytes as a number, or with a unit, like '256MiB' or '500gb'."
            )
        size_bytes = int(Fraction(match[1]) * unit_bytes)
    if not 0 < size_bytes <= SIZE_BYTES_MAX:
        raise ConfigError(f"{name}={size!r} is {size_bytes} bytes: it must be between 1 and {SIZE_BYTES_MAX}.")
    return size_bytes


def parse_shard_size(shard_size: str | int) -> int:
    """Return about how many bytes a shard may have. ConfigError where no shard can be so."""
    size_bytes = parse_size(shard_size, "shard_size")
    if not SHARD_BYTES_MIN <= size_bytes <= SHARD_BYTES_MAX:
        raise ConfigError(f"shard_size={shard_size!r} is {size_bytes} bytes: choose 64KiB to 16GiB.")
    return size_bytes


def format_size(size_bytes: int) -> str:
    """Return `size_bytes` for people, in binary units: 268435456 is "256.0 MiB"."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    power = min((size_bytes.bit_length() - 1) // 10, len(_BINARY_UNITS))
    return f"{size_bytes / 1024**power:.1f} {_BINARY_UNITS[power - 1]}"
