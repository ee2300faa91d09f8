"""Row maps against plain lists: any chain of steps gives the rows that the list gives, whatever kind of map it is."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastfeed._native.selection import Selection, split_mask
from fastfeed.dataset import row_map
from fastfeed.dataset.row_map import Everything, Listed, RowMap, composed, kept, of_selection, picked, sliced
from fastfeed.dataset.views import SPLIT_LIMIT, split_ends
from tests.helpers.order_oracle import derive

MASK64 = (1 << 64) - 1


def rows_of(mapped: RowMap) -> list[int]:
    return mapped.physical(np.arange(len(mapped), dtype=np.int64)).tolist()


def check(mapped: RowMap, expected: list[int], universe: int) -> None:
    assert (rows_of(mapped), len(mapped), mapped.universe) == (expected, len(expected), universe)
    assert not mapped.is_ascending or sorted(set(expected)) == expected
    for first, stop in ((0, universe), (universe // 3, universe // 2), (universe, universe)):
        at, rows = mapped.within(first, stop)
        numbers = range(len(expected))[at] if isinstance(at, slice) else at.tolist()
        assert sorted(numbers) == [i for i, row in enumerate(expected) if first <= row < stop]
        assert rows.tolist() == [expected[i] for i in numbers]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_chain_of_steps_gives_the_rows_that_a_list_gives(data: st.DataObject) -> None:
    universe = data.draw(st.one_of(st.integers(0, 40), st.integers(500, 2000)))
    mapped: RowMap = Everything(universe)
    expected = list(range(universe))
    for _ in range(data.draw(st.integers(0, 4))):
        seed = data.draw(st.integers(0, 2**32 - 1))
        rng = np.random.default_rng(seed)
        match data.draw(st.sampled_from(["slice", "set", "list", "test"])):
            case "slice":
                step = data.draw(st.sampled_from([1, 1, 2, 7, -1, -3]))
                start = data.draw(st.integers(-len(expected) - 1, len(expected) + 1))
                part = range(len(expected))[start::step]
                mapped, expected = sliced(mapped, part), [expected[i] for i in part]
            case "set":
                mask = rng.random(len(expected)) < data.draw(st.sampled_from([0.0, 0.005, 0.5, 1.0]))
                mapped = composed(mapped, Selection.from_rows(np.flatnonzero(mask), len(expected)))
                expected = [row for row, chosen in zip(expected, mask, strict=True) if chosen]
            case "list":
                count = data.draw(st.integers(0, 30)) if expected else 0
                numbers = rng.integers(0, max(1, len(expected)), count)
                mapped, expected = picked(mapped, numbers), [expected[i] for i in numbers]
            case "test":
                passed = rng.random(universe) < 0.4
                cuts = sorted({0, universe // 3, universe // 2, universe})
                tests = [(a, b, lambda a=a, b=b, p=passed: p[a:b]) for a, b in itertools.pairwise(cuts)]
                mapped, expected = kept(mapped, tests), [row for row in expected if passed[row]]
        check(mapped, expected, universe)


def test_equal_sets_are_equal_maps_however_they_were_made() -> None:
    rows = np.arange(0, 1000, 3)
    by_rows = picked(Everything(1000), rows)
    by_bits = of_selection(Selection.from_rows(rows, 1000))
    in_two = composed(composed(Everything(1000), Selection.from_rows(np.arange(999), 1000)),
                      Selection.from_rows(rows[:-1], 999))  # fmt: skip
    assert by_rows.digest() == by_bits.digest() != in_two.digest()
    everything = of_selection(Selection.from_rows(np.arange(9), 9))
    assert isinstance(everything, Everything)
    assert everything.digest() == b""


def test_few_rows_are_a_list_and_many_a_bitmap() -> None:
    assert isinstance(of_selection(Selection.from_rows([1, 500], 1000)), Listed)
    assert not isinstance(of_selection(Selection.from_rows(np.arange(16), 1000)), Listed)
    assert len({of_selection(Selection.from_rows([k], 1000)).digest() for k in range(5)}) == 5


def test_spans_cover_all_rows() -> None:
    spans = list(row_map.spans(2 * row_map.SPAN_ROWS + 5))
    assert spans[0][0] == 0
    assert spans[-1] == (2 * row_map.SPAN_ROWS, 2 * row_map.SPAN_ROWS + 5)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))


# --- splits -----------------------------------------------------------------------------------------------------


def hash_of(seed: int, uid: bytes, row: int) -> int:
    """The formula of docs/views.md."""
    key = derive(0x73706C6974, seed)
    key = derive(derive(key, int.from_bytes(uid[:8], "little")), int.from_bytes(uid[8:], "little"))
    return derive(key, row) >> 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, MASK64), st.binary(min_size=16, max_size=16), st.integers(0, 2**40), st.integers(0, 30))
def test_the_hash_of_a_split_is_the_documented_one(seed: int, uid: bytes, first: int, count: int) -> None:
    hashes = [hash_of(seed, uid, row) for row in range(first, first + count)]
    low, high = SPLIT_LIMIT // 3, SPLIT_LIMIT // 2
    assert split_mask(seed, uid, first, count, low, high).tolist() == [low <= each < high for each in hashes]
    assert split_mask(seed, uid, first, count, 0, SPLIT_LIMIT).all()


@given(st.lists(st.integers(0, 100), min_size=1, max_size=6).filter(sum))
def test_the_ends_of_parts_ascend_to_the_limit(shares: list[int]) -> None:
    ends = split_ends([share / sum(shares) for share in shares])
    assert ends == sorted(ends)
    assert ends[-1] == SPLIT_LIMIT
    for end, running in zip(ends, np.cumsum(shares), strict=True):
        assert abs(end / SPLIT_LIMIT - running / sum(shares)) < 1e-9


def test_ends_are_those_of_the_decimal_fractions() -> None:
    assert split_ends([0.9, 0.1]) == [(9 * SPLIT_LIMIT + 5) // 10, SPLIT_LIMIT]
    assert split_ends([0.1, 0.2, 0.7])[1] == (3 * SPLIT_LIMIT + 5) // 10
