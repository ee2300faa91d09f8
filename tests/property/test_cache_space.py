"""The book-keeping of a pool: shares, free slots and the index, held against plain lists and dicts; and the limit, at
every moment of any sequence of fills and limits."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from fastfeed.cache.slot_index import SlotIndex, SlotState
from fastfeed.cache.slot_table import ENTRY_TYPE
from fastfeed.cache.space import Space, shares
from tests.helpers.cache_pools import KEY, SLOT_AND_TABLE, body, limit_of, place

LENGTH = 1000


disks_of_a_pool = st.lists(st.tuples(st.integers(1, 10**13), st.integers(0, 10**7)), min_size=1, max_size=6)


@given(st.integers(0, 10**7), disks_of_a_pool)
def test_shares_are_exact_and_by_capacity(slots: int, disks: list[tuple[int, int]]) -> None:
    capacities, regions = [capacity for capacity, _ in disks], [region for _, region in disks]
    given_slots = shares(slots, capacities, regions)
    assert sum(given_slots) == min(slots, sum(regions))
    assert all(0 <= share <= region for share, region in zip(given_slots, regions, strict=True))
    if all(region >= slots for region in regions):
        total = sum(capacities)
        for share, capacity in zip(given_slots, capacities, strict=True):
            assert abs(share - slots * capacity / total) <= 1


@given(st.integers(0, 12), st.lists(st.tuples(st.sampled_from(["take", "back", "target"]), st.integers(0, 12))))
def test_no_slot_is_given_out_twice_nor_beyond_the_target(target: int, steps: list[tuple[str, int]]) -> None:
    """As the pool does it: a slot that is in use beyond a lowered target is passed over until it comes back."""
    space, out = Space(target), set()
    for what, number in steps:
        if what == "take":
            while (slot := space.take()) in out:
                pass
            if slot is not None:
                assert slot < space.target
                out.add(slot)
            else:
                assert len([each for each in out if each < space.target]) == space.target
        elif what == "back" and out:
            slot = sorted(out)[number % len(out)]
            out.remove(slot)
            assert space.put_back(slot) == (slot < space.target)
        elif what == "target":
            space.retarget(number)


names = st.tuples(st.sampled_from([b"a" * 16, b"b" * 16, b"c" * 16]), st.integers(0, 20))


@given(st.dictionaries(st.integers(0, 30), names, max_size=20), st.lists(st.integers(0, 30)))
def test_the_index_is_a_dict_both_ways(wanted: dict[int, tuple[bytes, int]], cleared: list[int]) -> None:
    entries = np.zeros(31, dtype=ENTRY_TYPE)
    states = np.zeros(31, dtype=np.uint8)
    for slot, (key, chunk) in wanted.items():
        entries[slot]["key"], entries[slot]["chunk"] = np.void(key), chunk
        entries[slot]["length"], entries[slot]["generation"] = chunk + 1, 2 * slot
        states[slot] = SlotState.PUBLISHED if slot % 3 else SlotState.UNPROVEN
    index = SlotIndex(40)
    dropped = index.load(5, entries, states)
    model: dict[tuple[bytes, int], int] = {}
    for slot, name in sorted(wanted.items(), key=lambda each: (states[each[0]], each[0])):
        model.setdefault(name, slot + 5)
    assert dropped == len(wanted) - len(model)
    for slot in cleared:
        if (name := wanted.get(slot)) and model.get(name) == slot + 5:
            del model[name]
            index.clear(slot + 5, SlotState.FREE)
    for key in (b"a" * 16, b"b" * 16, b"c" * 16):
        chunks, slots = index.slots_of(key)
        assert dict(zip(chunks.tolist(), slots.tolist(), strict=True)) == {
            chunk: slot for (other, chunk), slot in model.items() if other == key
        }
        for chunk in range(22):
            assert index.at(key, chunk) == model.get((key, chunk))
    for (key, chunk), slot in model.items():
        assert index.content(slot) == (key, chunk, chunk + 1)
    assert int(np.count_nonzero(index.state)) == len(model)
    for (key, chunk), slot in model.items():
        index.clear(slot, SlotState.FREE)
        index.put(slot, key, chunk + 30, 7, SlotState.RESERVED)
        assert index.at(key, chunk + 30) == slot
        index.clear(slot, SlotState.FREE)
    assert list(index.keys()) == []


step = st.one_of(
    st.tuples(st.just("fill"), st.integers(0, 15)),
    st.tuples(st.just("reserve"), st.integers(0, 15)),
    st.tuples(st.just("end"), st.integers(0, 15)),
    st.tuples(st.just("limit"), st.integers(1, 10)),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(step, max_size=25))
def test_the_limit_holds_at_every_moment(steps: list[tuple[str, int]]) -> None:
    """Fills that a lowered limit finds in slots beyond it count above it until they end, and only they."""
    with place() as here, here.open(slots=5) as pool:
        held = []
        for what, number in steps:
            if what == "fill" and (reservation := pool.reserve(KEY, number, LENGTH)):
                pool.fill(reservation, body(KEY, number, LENGTH))
            elif what == "reserve" and (reservation := pool.reserve(KEY, number, LENGTH)):
                held.append(reservation)
            elif what == "end" and held:
                reservation = held.pop(number % len(held))
                pool.fill(reservation, body(KEY, reservation.chunk, LENGTH))
            elif what == "limit":
                pool.set_limit(limit_of(number))
            stats = pool.stats()
            beyond = sum(reservation.slot >= stats.slots for reservation in held)
            assert stats.used_bytes <= stats.limit_bytes + beyond * SLOT_AND_TABLE
        for reservation in held:
            pool.abandon(reservation)
        assert pool.used_bytes <= pool.limit_bytes
        assert pool.stats().reserved_slots == 0
