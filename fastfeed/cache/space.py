"""Which slots of one disk may be given out: the limit by construction. Pure: no files, no locks, no clock.

Slots are numbered from 0 here. None at or above `target` is given out. Who takes a slot that is still in use
elsewhere (it was beyond a lowered target, and the target was raised again) takes another: the first one comes back by
`put_back`.
"""

from __future__ import annotations


class Space:
    """Free slots of a disk. The lowest come first, so that a slab grows as late as it can."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._frontier = 0  # slots from here on were never given out
        self._returned: list[int] = []

    @property
    def free(self) -> int:
        return len(self._returned) + max(0, self.target - self._frontier)

    def restore(self, used: list[int] | set[int]) -> None:
        """At the opening: these are given out."""
        used = set(used)
        self._frontier = min(self.target, max(used, default=-1) + 1)
        self._returned = [slot for slot in range(self._frontier - 1, -1, -1) if slot not in used]

    def take(self) -> int | None:
        """A free slot; None: there is none."""
        if self._returned:
            return self._returned.pop()
        if self._frontier < self.target:
            self._frontier += 1
            return self._frontier - 1
        return None

    def put_back(self, slot: int) -> bool:
        """A slot that was given out is free again. False: it is beyond the target, and gone."""
        if slot < self._frontier:
            self._returned.append(slot)
        return slot < self.target

    def retarget(self, target: int) -> None:
        """Another number of slots. Free ones at or above it are gone; the caller empties those that are given out."""
        if target < self.target:
            self._returned = [slot for slot in self._returned if slot < target]
            self._frontier = min(self._frontier, target)
        self.target = target


def shares(slots: int, capacities: list[int], regions: list[int]) -> list[int]:
    """`slots` over disks by their capacities, no disk above its region: exact in sum, unless the regions are too
    small."""
    given = [0] * len(capacities)
    open_disks = [disk for disk, capacity in enumerate(capacities) if capacity > 0]
    left = slots
    while open_disks and left > 0:
        total = sum(capacities[disk] for disk in open_disks)
        # Floors of running sums: exact, and the same whatever the order of the disks' names is.
        share, before, running = {}, 0, 0
        for disk in open_disks:
            running += capacities[disk]
            share[disk], before = left * running // total - before, left * running // total
        for disk in open_disks:
            more = min(share[disk], regions[disk] - given[disk])
            given[disk] += more
            left -= more
        full = [disk for disk in open_disks if given[disk] >= regions[disk]]
        if not full:
            break
        open_disks = [disk for disk in open_disks if disk not in full]
    return given
