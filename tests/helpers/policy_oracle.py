"""Uses of blocks and policies of a cache once more, in plain Python: slow, obvious, independent of csrc.

Uses are found by asking for every position of the epoch; policies look at all chunks for each decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fastfeed.order import Order

WHOLE = 256
STAGE_PART_MIN = 192
KEPT_PART_MIN = 64
CHUNK = 1 << 20


def block_positions(order: Order) -> dict[int, list[int]]:
    """Every block's positions, ascending."""
    found: dict[int, list[int]] = {}
    for position, row in enumerate(order.rows(0, order.n).tolist()):
        found.setdefault(row // order.block_rows, []).append(position)
    return found


class Use(NamedTuple):
    begin: int
    end: int
    chunk: int
    part: int = WHOLE
    dense: bool = True


@dataclass
class Cost:
    demand: int = 0
    origin: int = 0
    writes: int = 0
    uses: int = 0
    hits: int = 0
    exact: int = 0


@dataclass
class _Chunk:
    ends: list[int] = field(default_factory=list)  # of uses that have begun
    last_use: int = -1


def simulate(policy: str, uses: Sequence[Use], ranks: Sequence[int], capacity: int, count_from: int = 0,
             count_until: int = 1 << 62) -> Cost:
    """resident, min or lru."""
    cost, cached, chunks = Cost(), set[int](), [_Chunk() for _ in ranks]

    def key(number: int) -> tuple[int, int]:
        """Of who was used last by use `number`: the largest goes first."""
        chunk = uses[number].chunk
        if policy == "resident":
            return ranks[chunk], 0
        if policy == "lru":
            return -number, 0
        later = [use.begin for use in uses[number + 1 :] if use.chunk == chunk]
        return (min(later) if later else 1 << 62), ranks[chunk]

    for number, use in enumerate(uses):
        counts = count_from <= use.begin < count_until
        total = cost if counts else Cost()
        total.uses += 1
        total.demand += use.part
        if use.chunk in cached:
            total.hits += 1
        else:
            idle = [each for each in cached if not any(end > use.begin for end in chunks[each].ends)]
            victim = max(idle, key=lambda each: key(chunks[each].last_use), default=None)
            room = len(cached) < capacity
            if not room and victim is not None:
                sooner = key(number)[0] < key(chunks[victim].last_use)[0]
                kept = policy == "lru" or (sooner and use.part >= KEPT_PART_MIN)
                if kept or (not use.dense and use.part >= STAGE_PART_MIN):
                    cached.discard(victim)
                    room = True
            if room:
                total.origin += WHOLE
                total.writes += 1
                cached.add(use.chunk)
            else:
                total.origin += use.part
                total.exact += 1
        chunks[use.chunk].last_use = number
        chunks[use.chunk].ends.append(use.end)
    return cost


def simulate_s3fifo(names: Sequence[int], capacity: int) -> int:
    """Hits of S3-FIFO, as its paper has it: a small queue of a tenth, a main one, names of as many as the main one."""
    small: list[int] = []
    main: list[int] = []
    ghost: list[int] = []
    counts: dict[int, int] = {}
    hits = 0
    small_target = max(1, capacity // 10)

    def evict() -> None:
        if small and (len(small) >= small_target or not main):
            name = small.pop(0)
            if counts[name] > 1:
                counts[name] = 0
                main.append(name)
                return
            ghost.append(name)
            del counts[name]
            while len(ghost) > capacity - small_target:
                ghost.pop(0)
            return
        name = main.pop(0)
        if counts[name] > 0:
            counts[name] -= 1
            main.append(name)
        else:
            del counts[name]

    for name in names:
        if name in counts:
            counts[name] = min(3, counts[name] + 1)
            hits += 1
            continue
        known = name in ghost
        while len(small) + len(main) >= capacity:
            evict()
        if name in ghost:
            ghost.remove(name)
        counts[name] = 0
        (main if known else small).append(name)
    return hits
