"""Sizes as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from fastfeed.errors import ConfigError
from fastfeed.format.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("size", "size_bytes"),
    [
        (1, 1),
        ("1", 1),
        ("256MiB", 256 << 20),
        ("500gb", 500 * 10**9),
        ("1.5 GB", 1_500_000_000),
        (" 64 KiB ", 65536),
        ("0.1TiB", (1 << 40) // 10),
        ("3k", 3000),
        ("7B", 7),
    ],
)
def test_numbers_and_units_are_understood(size: str | int, size_bytes: int) -> None:
    assert parse_size(size) == size_bytes


@pytest.mark.parametrize(
    "size", ["", "MiB", "12 parsecs", "-1", "1e6", "1,000", 0, -5, "0", "9999999TiB", True, 1.5, None]
)
def test_what_is_no_size_is_refused_with_the_arguments_name(size: Any) -> None:
    with pytest.raises(ConfigError, match="shard_size="):
        parse_size(size, "shard_size")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (268435456, "256.0 MiB"), (1 << 62, "4096.0 PiB")],
)
def test_sizes_are_written_for_people(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text
