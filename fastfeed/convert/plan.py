"""Cutting a list of items into shards, by their sizes alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Bytes that a row costs beside its values: the frame's head, its place in the row index, lanes.
ROW_OVERHEAD_BYTES = 64


def cut(sizes_bytes: Sequence[int], shard_size_bytes: int) -> list[range]:
    """Ranges of items, one a shard, all of about equal size and about `shard_size_bytes` at most.

    The number of shards is the least for which their mean is not above `shard_size_bytes`; an item goes to
    the shard in whose equal share of the bytes its middle lies. Integers only, so the cut is the same
    everywhere. An item larger than a shard gets a shard that is larger.
    """
    count = len(sizes_bytes)
    if count == 0:
        return []
    sizes = np.asarray(sizes_bytes, dtype=np.int64) + ROW_OVERHEAD_BYTES
    ends = np.cumsum(sizes)
    total = int(ends[-1])
    shard_count = -(-total // shard_size_bytes)
    # Twice the middle of each item against twice the shares' limits, so that halves stay whole numbers.
    middles = 2 * ends - sizes
    limits = [2 * share * total // shard_count for share in range(1, shard_count)]
    stops = [*np.searchsorted(middles, np.array(limits, dtype=np.int64), side="left").tolist(), count]
    starts = [0, *stops[:-1]]
    return [range(start, stop) for start, stop in zip(starts, stops, strict=True) if stop > start]
