"""How messages and reports write lists and counts. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Sequence

# More names than these hide what the message says.
NAMES_SHOWN = 8


def few(names: Sequence[str], most: int = NAMES_SHOWN) -> str:
    """The first `most` of `names`, and how many more there are: "a, b and 3 more"."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def count_text(count: int, noun: str) -> str:
    """(1, 'row') -> '1 row'; (1200, 'row') -> '1,200 rows'."""
    plural = noun if count == 1 else noun + ("es" if noun.endswith("s") else "s")
    return f"{count:,} {plural}"
