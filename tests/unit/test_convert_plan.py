"""Cutting items into shards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastfeed.convert.plan import ROW_OVERHEAD_BYTES, cut


@given(st.lists(st.integers(0, 5000), max_size=200), st.integers(1, 20_000))
def test_the_shards_are_all_items_in_order(sizes: list[int], shard_size_bytes: int) -> None:
    shards = cut(sizes, shard_size_bytes)
    assert [item for shard in shards for item in shard] == list(range(len(sizes)))
    assert all(len(shard) > 0 for shard in shards)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=200), st.integers(1, 20_000))
def test_no_shard_is_larger_than_asked_for_by_more_than_one_item(sizes: list[int], shard_size_bytes: int) -> None:
    largest = max(sizes) + ROW_OVERHEAD_BYTES
    for shard in cut(sizes, shard_size_bytes):
        assert sum(sizes[item] + ROW_OVERHEAD_BYTES for item in shard) <= shard_size_bytes + largest


def test_shards_are_of_equal_size_rather_than_full_and_a_rest() -> None:
    """Ten rows into shards of eight: five and five, so that two workers end together."""
    size = 1000 - ROW_OVERHEAD_BYTES
    assert cut([size] * 10, 8000) == [range(5), range(5, 10)]


def test_one_item_larger_than_a_shard_has_a_shard_of_its_own() -> None:
    assert cut([10, 100_000, 10], 1000)[1] == range(1, 2)


def test_sums_beyond_64_bits_of_products_do_not_overflow() -> None:
    """A petabyte in a million items: share times total is beyond 2^63."""
    shards = cut([1 << 30] * 1_000_000, 256 << 20)
    assert len(shards) == 1_000_000


@pytest.mark.parametrize("sizes", [[], [0]])
def test_nothing_gives_no_shard_and_an_empty_item_gives_one(sizes: list[int]) -> None:
    assert cut(sizes, 1000) == [range(1)] * len(sizes)
