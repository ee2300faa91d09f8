"""Cutting a list of items into tasks, by their sizes alone. Pure.

A task is what one worker does from start to end; it usually gives one shard (task.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Bytes that a row costs beside its values: the frame's head, its place in the row index, lanes.
ROW_OVERHEAD_BYTES = 64
# So many tasks keep any machine's workers busy to the end: two of three are not done at the same time as the third.
TASKS_WANTED = 16
# A small input is not cut finer than this for that.
TASK_BYTES_MIN = 64 << 20


def cut(sizes_bytes: Sequence[int], shard_size_bytes: int) -> list[range]:
    """Ranges of items, one a task, all of about equal size and about `shard_size_bytes` at most.

    The number of tasks is the least for which their mean is not above `shard_size_bytes`; where that is below
    TASKS_WANTED, as many as have TASK_BYTES_MIN each. An item goes to the task in whose equal share of the bytes
    its middle lies. Integers only, so the cut is the same everywhere. An item larger than a shard makes a task
    that is larger.
    """
    count = len(sizes_bytes)
    if count == 0:
        return []
    sizes = np.asarray(sizes_bytes, dtype=np.int64) + ROW_OVERHEAD_BYTES
    ends = np.cumsum(sizes)
    total = int(ends[-1])
    shard_count = max(-(-total // shard_size_bytes), min(TASKS_WANTED, total // TASK_BYTES_MIN))
    # Twice the middle of each item against twice the shares' limits, so that halves stay whole numbers.
    middles = 2 * ends - sizes
    limits = [2 * share * total // shard_count for share in range(1, shard_count)]
    stops = [*np.searchsorted(middles, np.array(limits, dtype=np.int64), side="left").tolist(), count]
    starts = [0, *stops[:-1]]
    return [range(start, stop) for start, stop in zip(starts, stops, strict=True) if stop > start]
