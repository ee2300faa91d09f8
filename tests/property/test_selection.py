"""Selections against numpy: rank, select, membership, bits; and what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastfeed._native.selection import Selection
from fastfeed.errors import ConfigError, FastfeedError


@st.composite
def masks(draw: st.DrawFn) -> npt.NDArray[np.bool_]:
    """Rows that are selected: dense, sparse, or in runs longer than what two hints of a selection span."""
    universe = draw(st.one_of(st.integers(0, 1100), st.integers(0, 60_000)))
    seed, share = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.0, 0.001, 0.3, 0.5, 0.99, 1.0]))
    mask = np.random.default_rng(seed).random(universe) < share
    if draw(st.booleans()):
        mask[(np.arange(universe) // draw(st.sampled_from([100, 20_000]))) % 2 == 1] = False
    return mask


def bits_of(mask: npt.NDArray[np.bool_]) -> bytes:
    return np.packbits(mask, bitorder="little").tobytes()


@settings(max_examples=120, deadline=None)
@given(masks())
def test_rank_and_select_are_those_of_the_list_of_rows(mask: npt.NDArray[np.bool_]) -> None:
    rows, universe = np.flatnonzero(mask), len(mask)
    selection = Selection.from_bits(bits_of(mask), universe)
    assert (len(selection), selection.universe) == (len(rows), universe)
    assert np.array_equal(selection.rows_at(np.arange(len(rows))), rows)
    assert np.array_equal(selection.rows_at(np.arange(len(rows))[::-1]), rows[::-1])
    assert np.array_equal(selection.ranks_of(np.arange(universe + 1)), np.cumsum([0, *mask]))
    assert np.array_equal(selection.ranks_of(selection.rows_at(np.arange(len(rows)))), np.arange(len(rows)))
    assert np.array_equal(selection.contains(np.arange(universe)), mask)


@settings(max_examples=60, deadline=None)
@given(masks())
def test_bits_rows_and_pickles_make_the_same_selection(mask: npt.NDArray[np.bool_]) -> None:
    by_bits = Selection.from_bits(bits_of(mask), len(mask))
    by_rows = Selection.from_rows(np.flatnonzero(mask), len(mask))
    for other in (by_rows, pickle.loads(pickle.dumps(by_bits)), Selection.from_bits(by_bits.bits(), len(mask))):
        assert other == by_bits
        assert hash(other) == hash(by_bits)
        assert other.digest() == by_bits.digest()
    assert by_bits.bits() == bits_of(mask)


def test_the_digest_knows_the_universe() -> None:
    assert Selection.from_rows([1], 5).digest() != Selection.from_rows([1], 6).digest()
    assert Selection.from_rows([1], 5) != Selection.from_rows([1], 6)


def test_memory_is_at_most_15_percent_more_than_the_bits() -> None:
    for rows in (np.arange(10**6), np.arange(0, 10**6, 2), np.zeros(0, np.int64)):
        assert Selection.from_rows(rows, 10**6).memory_bytes <= 1.15 * 10**6 / 8


def test_what_is_outside_is_an_index_error_with_its_value() -> None:
    selection = Selection.from_rows([2, 5], 10)
    for call, value in ((selection.rows_at, 2), (selection.rows_at, -1), (selection.ranks_of, 11),
                        (selection.ranks_of, -3), (selection.contains, 10)):  # fmt: skip
        with pytest.raises(IndexError, match=f" {value} is outside"):
            call([0, value])
    assert selection.ranks_of([10]).tolist() == [2]
    assert selection.rows_at([]).tolist() == []


def test_what_is_no_selection_is_refused() -> None:
    with pytest.raises(ConfigError, match="bits beyond"):
        Selection.from_bits(b"\xff", 7)
    with pytest.raises(ConfigError, match="has 2 bytes, not 1"):
        Selection.from_bits(b"\xff", 9)
    with pytest.raises(ConfigError, match="0 to 2\\^48"):
        Selection.from_rows([], -1)
    with pytest.raises(ConfigError, match="row 3 after row 3"):
        Selection.from_rows([3, 3], 9)
    with pytest.raises(ConfigError, match="2 dimensions"):
        Selection.from_rows([[1, 2]], 9)
    with pytest.raises(ConfigError, match="2 dimensions"):
        Selection.from_rows([1], 9).contains([[1]])
    with pytest.raises(FastfeedError, match="from_bits"):
        Selection()
