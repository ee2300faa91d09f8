"""Damage to the files of a dataset, drawn by Hypothesis and undone afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

KINDS = ("flip", "truncate", "append", "zero", "randomize", "repeat", "swap", "replace", "delete", "empty")
RANGE_BYTES_MAX = 5000


@dataclass(frozen=True)
class Damage:
    """One change to file number `file` (modulo how many there are); `place` and `extent` are fractions of it."""

    kind: str
    file: int
    place: float
    extent: float
    seed: int

    def apply(self, files: list[Path], others: list[Path]) -> None:
        """others: files of another dataset, what `replace` takes from."""
        path = files[self.file % len(files)]
        if not path.exists():
            return
        data = bytearray(path.read_bytes())
        at = int(self.place * len(data))
        end = min(len(data), at + 1 + int(self.extent * RANGE_BYTES_MAX))
        drawn = random.Random(self.seed)
        match self.kind:
            case "flip" if data:
                data[at] ^= 1 << drawn.randrange(8)
            case "truncate":
                del data[at:]
            case "append":
                data += drawn.randbytes(end - at)
            case "zero":
                data[at:end] = bytes(end - at)
            case "randomize":
                data[at:end] = drawn.randbytes(end - at)
            case "repeat":  # right bytes in a wrong place, in steps that frames and pages have
                source = drawn.randrange(max(1, len(data))) // 8 * 8
                piece = data[source : source + (end - at) // 8 * 8]
                data[at // 8 * 8 : at // 8 * 8 + len(piece)] = piece
            case "swap":
                with_path = files[drawn.randrange(len(files))]
                if with_path.exists():
                    other = with_path.read_bytes()
                    with_path.write_bytes(data)
                    data = bytearray(other)
            case "replace":
                data = bytearray(others[drawn.randrange(len(others))].read_bytes())
            case "empty":
                data.clear()
        if self.kind == "delete":
            path.unlink()
        else:
            path.write_bytes(data)


@contextmanager
def undone(files: list[Path]) -> Iterator[None]:
    """What happens to `files` inside is as if it had not been."""
    kept = {path: path.read_bytes() for path in files}
    try:
        yield
    finally:
        for path, data in kept.items():
            path.write_bytes(data)


def damages() -> st.SearchStrategy[list[Damage]]:
    """One to three changes; most are one."""
    fraction = st.floats(0, 1, exclude_max=True)
    one = st.builds(Damage, st.sampled_from(KINDS), st.integers(0, 20), fraction, fraction, st.integers(0, 2**32))
    return st.one_of(st.tuples(one).map(list), st.lists(one, min_size=1, max_size=3))


def flip(path: Path, at: int) -> None:
    """Change one bit of byte `at`; negative: from the end."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)
