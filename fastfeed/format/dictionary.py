"""Training of zstd dictionaries.

Deterministic: the same samples in the same order give the same dictionary (one thread, fixed parameters, and zstd
derives the dictionary's id from its content). Where there is too little to learn from, the
answer is b"": no dictionary.
"""

from __future__ import annotations

from collections.abc import Iterable

import zstandard

from fastfeed.errors import ConfigError
from fastfeed.format.layout import DICTIONARY_BYTES_MAX, dictionary_hash

# The limit of the format. Text of 1 KB gains up to it (benchmarks/bench_text_size.py has the table of sizes), and
# decompression does not get slower.
DICTIONARY_BYTES = DICTIONARY_BYTES_MAX
# zstd's advice is samples of about 100 times the size of the dictionary, and never more than these.
SAMPLES_PER_DICTIONARY_BYTE = 100
SAMPLES_BYTES_MAX = 100 * 1000 * 1000
# Every shard carries the dictionary: with less than this many times its size to learn from, it is made smaller.
_SAMPLES_PER_DICTIONARY_BYTE_MIN = 64
# At most 3 % of a shard (text shrinks to about a third, so this is 1 % of the text in it).
_SHARD_BYTES_PER_DICTIONARY_BYTE = 32
# Below these zstd finds nothing that pays.
_DICTIONARY_BYTES_MIN = 1024
_SAMPLE_COUNT_MIN = 16
# A long value teaches by its beginning; whole ones would crowd out the others.
_SAMPLE_BYTES_MAX = 128 * 1024

_Sample = bytes | bytearray | memoryview  # what zstandard wants its list to be of

__all__ = [
    "DICTIONARY_BYTES",
    "SAMPLES_BYTES_MAX",
    "dictionary_bytes_for",
    "dictionary_hash",
    "sample_budget_bytes",
    "train",
]


def dictionary_bytes_for(shard_bytes: int) -> int:
    """The largest dictionary that pays in shards of this size: each carries a copy."""
    return max(_DICTIONARY_BYTES_MIN, min(DICTIONARY_BYTES, shard_bytes // _SHARD_BYTES_PER_DICTIONARY_BYTE))


def sample_budget_bytes(dictionary_bytes: int = DICTIONARY_BYTES) -> int:
    """How many bytes of samples are worth collecting for a dictionary of this size."""
    return min(SAMPLES_BYTES_MAX, SAMPLES_PER_DICTIONARY_BYTE * dictionary_bytes)


def train(
    samples: Iterable[bytes],
    *,
    dictionary_bytes: int = DICTIONARY_BYTES,
    samples_bytes: int | None = None,
    level: int = 3,
) -> bytes:
    """Train a dictionary of at most `dictionary_bytes` for compression at `level`.

    Takes samples until `samples_bytes` (default: sample_budget_bytes, at most SAMPLES_BYTES_MAX) are together.
    Returns b"" where they are too few or too small to gain from a dictionary.
    """
    if not _DICTIONARY_BYTES_MIN <= dictionary_bytes <= DICTIONARY_BYTES_MAX:
        raise ConfigError(
            f"dictionary_bytes={dictionary_bytes}: give {_DICTIONARY_BYTES_MIN} to {DICTIONARY_BYTES_MAX}"
        )
    budget = sample_budget_bytes(dictionary_bytes) if samples_bytes is None else samples_bytes
    if not 0 < budget <= SAMPLES_BYTES_MAX:
        raise ConfigError(f"samples_bytes={budget}: give 1 to {SAMPLES_BYTES_MAX}")
    taken = _take(samples, budget)
    size = min(dictionary_bytes, sum(map(len, taken)) // _SAMPLES_PER_DICTIONARY_BYTE_MIN)
    if size < _DICTIONARY_BYTES_MIN or len(taken) < _SAMPLE_COUNT_MIN:
        return b""
    try:
        # fastCOVER with fixed parameters: a search over k gains a few tenths of a percent for ten times the time;
        # f=24 gives 100 MB of samples enough counters (0.5 % smaller than 20 on text).
        trained = zstandard.train_dictionary(size, taken, k=400, d=8, f=24, accel=1, level=level)
    except zstandard.ZstdError:
        return b""  # zstd found nothing that repeats
    return trained.as_bytes()


def _take(samples: Iterable[bytes], budget_bytes: int) -> list[_Sample]:
    taken: list[_Sample] = []
    total = 0
    for sample in samples:
        if total >= budget_bytes:
            break
        if sample:
            taken.append(sample[: min(_SAMPLE_BYTES_MAX, budget_bytes - total)])
            total += len(taken[-1])
    return taken
