"""When blocks and chunks are used: computed from the order's inverse, held against asking for every position."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastfeed._native.policy import NO_USE, ChunkUses
from fastfeed.errors import ConfigError
from fastfeed.order import Order, ShuffleMode
from tests.helpers import policy_oracle as oracle

CHUNK = 1 << 20


class Case:
    """An order, and its blocks in bytes."""

    def __init__(self, n: int, seed: int, epoch: int, shuffle: ShuffleMode, window: int, block_rows: int,
                 row_bytes: int) -> None:
        self.n, self.row_bytes = n, row_bytes
        self.orders = [Order(n, seed=seed, epoch=each, shuffle=shuffle.argument, shuffle_window=window,
                             block_rows=block_rows) for each in (epoch, epoch + 1)]  # fmt: skip
        blocks = -(-n // block_rows)
        self.starts = np.arange(blocks, dtype=np.uint64) * np.uint64(block_rows * row_bytes) + np.uint64(4096)
        ends = np.minimum((np.arange(blocks) + 1) * block_rows, n) * row_bytes + 4096
        self.ends = ends.astype(np.uint64)
        self.uses = ChunkUses(n, seed, epoch, int(shuffle), window, block_rows, self.starts, self.ends)
        self.is_windowed = shuffle is ShuffleMode.WINDOW and window < n // block_rows
        self.group = min(8, window) * block_rows

    @property
    def chunks(self) -> int:
        return -(-int(self.ends[-1]) // CHUNK) if len(self.ends) else 0


cases = st.builds(
    Case,
    n=st.integers(1, 300),
    seed=st.integers(0, 1000),
    epoch=st.integers(0, 3),
    shuffle=st.sampled_from(ShuffleMode),
    window=st.integers(1, 12),
    block_rows=st.integers(1, 20),
    row_bytes=st.sampled_from([100_000, 300_000, CHUNK, 3 * CHUNK]),
)


def holds(ranges: list[tuple[int, int]], position: int) -> bool:
    return any(begin <= position < end for begin, end in ranges)


@given(cases)
def test_a_use_holds_every_position_of_its_block_and_is_tight_but_for_a_group(case: Case) -> None:
    order = case.orders[0]
    for block, positions in oracle.block_positions(order).items():
        ranges = case.uses.block_use(block)
        assert all(holds(ranges, position) for position in positions)
        assert all(0 <= begin < end <= case.n for begin, end in ranges)
        if case.is_windowed:
            # The last group takes what does not fill one of its own.
            slack = 4 * case.group + (case.n - len(case.starts) * order.block_rows % case.n) % order.block_rows
            window = order.shuffle_window * order.block_rows
            # Where the end of an epoch lies in the use, both ranges may come to lie in one group.
            held = len(set().union(*(range(begin, end) for begin, end in ranges)))
            assert held <= min(case.n, window + slack + order.block_rows)
            assert len(ranges) == 1 or ranges[0][0] == 0


@given(cases, st.data())
def test_blocks_come_in_the_order_in_which_their_uses_begin(case: Case, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, case.n - 1))
    count = data.draw(st.integers(0, 40))
    blocks = range(len(case.starts))
    begins = {block: case.uses.block_use(block)[-1][0] for block in blocks}
    expected = sorted(begin for begin in begins.values() if begin >= position)
    found = case.uses.blocks_from(position, count).tolist()
    if case.is_windowed or case.orders[0].shuffle is ShuffleMode.NONE:
        assert [begins[block] for block in found] == expected[:count]
        assert len(set(found)) == len(found)
        in_use = {block for block in blocks if holds(case.uses.block_use(block), position)}
        assert set(case.uses.blocks_at(position, len(blocks)).tolist()) == in_use
    else:
        assert found == [] == case.uses.blocks_at(position, count).tolist()


@settings(max_examples=60)
@given(cases, st.data())
def test_the_next_use_of_a_chunk_is_that_of_its_blocks(case: Case, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, case.n))
    chunks = np.arange(case.chunks, dtype=np.int64)
    order = case.orders[1]
    next_epoch = ChunkUses(case.n, order.seed, order.epoch, int(order.shuffle), order.shuffle_window, order.block_rows,
                           case.starts, case.ends)  # fmt: skip
    until, after, part = case.uses.next(position, chunks)
    which, begin, end, parts = case.uses.in_epoch(chunks)
    for chunk in chunks.tolist():
        first, stop = chunk * CHUNK, (chunk + 1) * CHUNK
        blocks = [block for block in range(len(case.starts)) if case.starts[block] < stop and case.ends[block] > first]
        ranges = [each for block in blocks for each in case.uses.block_use(block)]
        assert sorted(zip(begin[which == chunk], end[which == chunk], strict=True)) == sorted(ranges)
        ranges += [(low + case.n, high + case.n) for block in blocks for low, high in next_epoch.block_use(block)]
        ahead = sorted({max(0, low - position) for low, high in ranges if high > position})
        if ahead:
            assert until[chunk] == ahead[0]
            behind = [low - position for low, _ in ranges if low - position > ahead[0]]
            assert after[chunk] == min(behind, default=NO_USE)
            assert 0 < part[chunk] <= 256 or until[chunk] == 0
        assert case.uses.next_one(position, chunk) == (until[chunk], after[chunk], part[chunk])
    assert (parts > 0).all()


def test_a_chunk_that_no_block_has_is_never_used() -> None:
    case = Case(10, 0, 0, ShuffleMode.NONE, 1, 2, CHUNK)
    until, after, part = case.uses.next(0, np.array([-1, 1000], np.int64))
    assert until.tolist() == [NO_USE, NO_USE] == after.tolist()
    assert part.tolist() == [0, 0]


def test_a_chunk_that_one_block_has_is_read_whole_however_short_it_is() -> None:
    uses = ChunkUses(4, 0, 0, 0, 1, 2, np.array([0, CHUNK], np.uint64), np.array([1000, CHUNK + 3000], np.uint64))
    _, _, _, part = uses.in_epoch(np.array([0, 1], np.int64))
    assert part.tolist() == [256, 256]


def test_a_chunk_between_two_blocks_has_a_part_of_each() -> None:
    case = Case(4, 0, 0, ShuffleMode.NONE, 1, 2, 3 * CHUNK // 4)  # blocks of 1.5 chunks, from byte 4096 on
    which, begin, end, part = case.uses.in_epoch(np.array([1], np.int64))
    assert list(zip(begin.tolist(), end.tolist(), part.tolist(), strict=True)) == [(0, 2, 129), (2, 4, 127)]
    assert which.tolist() == [0, 0]


def test_blocks_that_do_not_ascend_are_refused() -> None:
    starts = np.array([0, 100], np.uint64)
    with pytest.raises(ConfigError, match="the bytes of block 1 begin or end before"):
        ChunkUses(4, 0, 0, 0, 1, 2, starts[::-1].copy(), starts + np.uint64(100))
    with pytest.raises(ConfigError, match="bytes of 1 and 1 blocks; the order has 2"):
        ChunkUses(4, 0, 0, 0, 1, 2, starts[:1], starts[:1])
    with pytest.raises(IndexError, match="block 2 of 2"):
        ChunkUses(4, 0, 0, 0, 1, 2, starts, starts).block_use(2)
