"""Who leaves a pool for whom: the evictor that knows the future, with few slots and a clock of the test's."""

from __future__ import annotations

import numpy as np
import pytest

from fastfeed.cache.evictor import Held
from fastfeed.cache.future import Course, Future, OrderShape
from fastfeed.cache.policy import (
    EVERYBODY,
    SWITCH_GAIN,
    Choice,
    Chooser,
    Cost,
    Members,
    Plan,
    Policy,
    choose,
    chunk_hashes,
    object_hash,
    preferred,
)
from fastfeed.cache.policy_evictor import FutureEvictor, Why, slots_of_bytes
from fastfeed.order import ShuffleMode
from tests.helpers.cache_world import Data

MIN_PLAN = Plan(policy=Policy.MIN, members=EVERYBODY, hit_ratio=0.0)
# One chunk a block, exactly.
CHUNKS = Data(blocks=16, block_rows=4, row_bytes=256 << 10, object_blocks=16, header_bytes=0)
KEY = CHUNKS.objects()[0].key
STRANGER = b"s" * 16


def in_order(data: Data = CHUNKS, position: int = 0, name: str = "job") -> Course:
    """A job that reads chunk after chunk."""
    order = OrderShape(data.rows, 0, ShuffleMode.NONE, 1, data.block_rows)
    return Course(name, data.geometry([each.key for each in data.objects()]), order, 0, position)


def shuffled(data: Data, window: int, seed: int = 0) -> Course:
    order = OrderShape(data.rows, seed, ShuffleMode.WINDOW, window, data.block_rows)
    return Course(f"seed {seed}", data.geometry([each.key for each in data.objects()]), order)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def evictor(slots: int, **options: object) -> FutureEvictor:
    return FutureEvictor(slots, clock=Clock(), cpu_clock=lambda: 0.0, **options)  # type: ignore[arg-type]


def test_what_a_restart_found_is_what_was_published_slot_by_slot() -> None:
    """One chunk of a job's, one of a stranger's, and one that the job has read; a slot between them holds nothing."""
    found = [(0, STRANGER, 7), (1, KEY, 3), (4, KEY, 9), (3, STRANGER, 2)]
    one, other = evictor(6), evictor(6)
    for slot, key, chunk in found:
        one.published(slot, key, chunk)
    keys = [b"nobody's", STRANGER, KEY]
    slots, names, chunks = zip(*found, strict=True)
    other.recovered(Held(np.array(slots), keys, np.array([keys.index(name) for name in names], np.int32),
                         np.array(chunks, np.int32)))  # fmt: skip
    gone: list[list[int]] = []
    for made in (one, other):
        assert all(made.holds(key, chunk) for _, key, chunk in found)
        assert not made.holds(KEY, 7)
        assert sorted(made.held_keys()) == sorted([KEY, STRANGER])
        made.set_courses([in_order(position=5 * CHUNKS.block_rows)])
        made.set_plan(MIN_PLAN)
        fill(made, 4, 5, first_slot=2, key=b"t" * 16)
        gone.append([])
        while (slot := made.victim(b"u" * 16, 0)) is not None and len(gone[-1]) < 6:
            made.removed(slot)
            gone[-1].append(slot)
    assert gone[0] == gone[1]
    assert len(gone[0]) >= 3


def fill(made: FutureEvictor, *chunks: int, key: bytes = KEY, first_slot: int = 0) -> None:
    for slot, chunk in enumerate(chunks):
        made.published(first_slot + slot, key, chunk)


class TestWhoGoes:
    def test_whoever_is_needed_last_goes_first(self) -> None:
        made = evictor(8)
        made.set_courses([windowless()])
        made.set_plan(MIN_PLAN)
        fill(made, 3, 9, 5)
        assert made.victim(KEY, 0) == 1

    def test_nothing_that_is_in_use_goes(self) -> None:
        made = evictor(8)
        made.set_courses([windowless()])
        made.set_plan(MIN_PLAN)
        fill(made, 0)
        assert made.victim(KEY, 1) is None

    def test_nothing_goes_for_a_chunk_that_is_needed_later(self) -> None:
        made = evictor(8)
        made.set_courses([windowless()])
        made.set_plan(MIN_PLAN)
        fill(made, 4, 6)
        assert made.victim(KEY, 5) == 1
        assert made.victim(KEY, 7) is None

    def test_chunks_in_nobodys_future_go_before_all_others(self) -> None:
        made = evictor(8)
        made.set_courses([windowless()])
        made.set_plan(MIN_PLAN)
        fill(made, 15)
        made.published(1, STRANGER, 0)
        assert made.victim(KEY, 2) == 1

    def test_what_is_pinned_stays_and_takes_the_place_of_others(self) -> None:
        made = evictor(8)
        made.set_courses([windowless()])
        made.set_plan(MIN_PLAN)
        made.published(0, STRANGER, 0)
        made.pin(STRANGER)
        fill(made, 9, first_slot=1)
        assert made.pinned_chunks == 1
        assert made.victim(KEY, 2) == 1
        assert made.victim(STRANGER, 1) == 1
        assert made.judge(STRANGER, 1) == (True, Why.PINNED)
        made.unpin(STRANGER)
        assert made.victim(KEY, 2) == 0

    def test_members_stay_under_resident(self) -> None:
        made = evictor(8)
        made.set_courses([windowless()])
        hashes = {chunk: hash_of(chunk) for chunk in range(4, 16)}
        low, high = min(hashes, key=lambda chunk: hashes[chunk]), max(hashes, key=lambda chunk: hashes[chunk])
        members = Members(made.future.courses[0].weight, hashes[low])
        made.set_plan(Plan(policy=Policy.RESIDENT, members=members, hit_ratio=0.0))
        fill(made, low, high)
        assert made.is_member(KEY, low)
        assert not made.is_member(KEY, high)
        assert made.victim(KEY, 0) == 1
        made.removed(1)
        assert made.victim(KEY, 0) is None

    def test_a_slot_that_was_filled_since_the_ranking_is_another_chunk(self) -> None:
        made = evictor(8)
        course = windowless()
        made.set_courses([course])
        made.set_plan(MIN_PLAN)
        fill(made, 13, 11, 3)
        assert made.victim(KEY, 0) == 0
        made.removed(0)
        fill(made, 1)
        assert made.victim(KEY, 2) == 1

    def test_removing_twice_or_what_was_never_there_is_no_error(self) -> None:
        made = evictor(8)
        made.removed(7)
        fill(made, 0)
        made.removed(0)
        made.removed(0)
        assert not made.holds(KEY, 0)
        gone = made.gone(KEY, 0)
        assert gone is not None
        assert gone.wanted_in_s == float("inf")
        assert made.held_keys() == []


class TestStrangers:
    def test_what_was_asked_for_again_outlives_what_was_asked_for_once(self) -> None:
        made = evictor(4)
        fill(made, 0, 1, 2, 3, key=STRANGER)
        for _ in range(2):
            made.used(STRANGER, 0)
        assert self.leaving_order(made, 4) == [1, 2, 3, 0]

    def test_a_chunk_that_comes_back_soon_is_not_the_first_to_go_again(self) -> None:
        made = evictor(3)
        fill(made, 0, 1, 2, key=STRANGER)
        made.removed(0)
        made.published(0, STRANGER, 0)
        assert self.leaving_order(made, 3) == [1, 2, 0]

    def test_a_stranger_takes_the_slot_of_a_stranger_only(self) -> None:
        made = evictor(6)
        made.set_courses([windowless()])
        made.set_plan(MIN_PLAN)
        fill(made, *range(10, 16))
        assert made.victim(STRANGER, 0) is None
        assert made.judge(STRANGER, 0) == (False, Why.ALL_IN_USE)
        made.removed(0)
        made.published(0, STRANGER, 1)
        assert made.judge(STRANGER, 0) == (True, Why.STRANGERS)

    @staticmethod
    def leaving_order(made: FutureEvictor, count: int) -> list[int]:
        slots = []
        for _ in range(count):
            slot = made.victim(STRANGER, 99)
            assert slot is not None
            slots.append(slot)
            made.removed(slot)
        return slots


class TestWhoComes:
    def test_a_free_slot_takes_anything(self) -> None:
        assert evictor(1).judge(STRANGER, 0) == (True, Why.FREE)

    def test_nothing_comes_when_the_days_writes_are_used_up(self) -> None:
        made = evictor(4, may_write=lambda: False)
        assert made.judge(STRANGER, 0) == (False, Why.NO_BUDGET)
        assert not made.admits(STRANGER, 0)
        assert (made.counters.admitted, made.counters.refused) == (0, 1)

    def test_a_scan_takes_nothing_from_others(self) -> None:
        training = Data(blocks=64, block_rows=4, row_bytes=256 << 10, object_blocks=64, header_bytes=0, name="train")
        made = evictor(30)
        made.set_courses([shuffled(training, 2), in_order()])
        made.set_plan(MIN_PLAN)
        key = training.objects()[0].key
        fill(made, *range(30), key=key)
        assert made.judge(KEY, 0) == (False, Why.SCAN)
        assert made.judge(KEY, 8) == (False, Why.SCAN)
        made.removed(0)
        assert made.judge(KEY, 0) == (True, Why.FREE)

    def test_when_the_active_blocks_exceed_the_pool_only_members_come(self) -> None:
        data = Data(blocks=64, block_rows=4, row_bytes=256 << 10, object_blocks=64, header_bytes=0)
        made = evictor(8)
        made.set_courses([shuffled(data, 40)])
        key = data.objects()[0].key
        assert made.active_exceeds
        made.set_plan(Plan(policy=Policy.MIN, members=Members(1.0, 0), hit_ratio=0.0))
        assert made.judge(key, 0) == (False, Why.ACTIVE_EXCEED)
        made.set_plan(Plan(policy=Policy.MIN, members=EVERYBODY, hit_ratio=0.0))
        assert made.judge(key, 0) == (True, Why.KEPT)

    def test_a_chunk_that_is_read_in_part_is_not_staged_for_it(self) -> None:
        """Blocks of 4 MiB from byte 512 KiB on: every fifth chunk is half of a block's."""
        data = Data(blocks=64, block_rows=4, row_bytes=1 << 20, object_blocks=64, header_bytes=512 << 10)
        made = evictor(140)
        course = shuffled(data, 4)
        made.set_courses([course])
        key = data.objects()[0].key
        made.set_plan(Plan(policy=Policy.RESIDENT, members=Members(1e9, 0), hit_ratio=0.0))
        block = next(block for block in course.uses().blocks_at(0, 64).tolist() if block > 0)
        fill(made, *[chunk for chunk in range(256) if abs(chunk - 4 * block) > 8][:140], key=key)
        assert made.judge(key, 4 * block + 1) == (True, Why.STAGED)
        assert made.judge(key, 4 * block) == (False, Why.NOT_AGAIN)

    def test_a_chunk_of_which_a_block_has_less_than_a_quarter_does_not_come_for_it(self) -> None:
        """Blocks of 4 MiB from byte 896 KiB on: of a block's first chunk an eighth is its own."""
        data = Data(blocks=64, block_rows=4, row_bytes=1 << 20, object_blocks=64, header_bytes=896 << 10)
        made = evictor(140)
        course = shuffled(data, 4)
        made.set_courses([course])
        key = data.objects()[0].key
        made.set_plan(Plan(policy=Policy.RESIDENT, members=EVERYBODY, hit_ratio=0.0))
        block = next(block for block in course.uses().blocks_at(0, 64).tolist() if block > 0)
        fill(made, *[chunk for chunk in range(256) if abs(chunk - 4 * block) > 8][:140], key=key)
        made.set_plan(Plan(policy=Policy.MIN, members=EVERYBODY, hit_ratio=0.0))
        assert made.judge(key, 4 * block + 1)[0]
        assert made.judge(key, 4 * block) == (False, Why.NOT_AGAIN)

    def test_slots_are_counted_with_their_trailers(self) -> None:
        assert slots_of_bytes(64 << 20) == 63


class TestPlans:
    def test_one_job_over_a_small_pool_keeps_a_share_of_the_data(self) -> None:
        course = in_order(Data(blocks=400, header_bytes=0, object_blocks=400))
        found = choose(future_of(course), [course], 400)
        assert found.chunks == found.sampled == 1600
        assert found.costs[Policy.RESIDENT].hit_ratio == pytest.approx(0.25, abs=0.005)
        assert found.costs[Policy.RESIDENT].write_ratio == 0
        assert preferred(found.costs) is Policy.RESIDENT

    def test_two_jobs_in_orders_of_their_own_are_better_served_by_min(self) -> None:
        data = Data(blocks=1024, header_bytes=0, object_blocks=1024)
        courses = [shuffled(data, 16, seed) for seed in range(2)]
        found = choose(future_of(*courses), courses, 1024)
        assert found.costs[Policy.MIN].hit_ratio > 0.45
        assert preferred(found.costs) is Policy.MIN

    def test_a_sample_says_about_what_all_chunks_say(self) -> None:
        data = Data(blocks=2048, header_bytes=0, object_blocks=2048)
        courses = [shuffled(data, 32, seed) for seed in range(2)]
        whole = choose(future_of(*courses), courses, 2048)
        sampled = choose(future_of(*courses), courses, 2048, chunks_max=1024)
        assert 900 < sampled.sampled < 1150
        for policy, cost in whole.costs.items():
            assert sampled.costs[policy].hit_ratio == pytest.approx(cost.hit_ratio, abs=0.04)

    def test_members_are_as_many_as_fit_beside_the_active_blocks(self) -> None:
        data = Data(blocks=1024, header_bytes=0, object_blocks=1024)
        course = shuffled(data, 16)
        found = choose(future_of(course), [course], 1024)
        chunks = np.arange(4096, dtype=np.int64)
        made = evictor(1024)
        made.set_courses([course])
        made.set_plan(Plan(policy=Policy.RESIDENT, members=found.members, hit_ratio=0.0))
        count = sum(made.is_member(data.objects()[0].key, int(chunk)) for chunk in chunks)
        assert count == pytest.approx(1024 - course.active_chunks, abs=2)

    def test_without_jobs_everybody_is_a_member_and_nothing_is_promised(self) -> None:
        found = choose(Future(), [], 100)
        assert found.members == EVERYBODY
        assert set(found.costs.values()) == {Cost(0.0, 0.0, 0.0)}

    def test_fewer_writes_decide_between_equal_hits(self) -> None:
        costs = {Policy.RESIDENT: Cost(0.500, 0.1, 0.0), Policy.MIN: Cost(0.501, 0.3, 0.0)}
        assert preferred(costs) is Policy.RESIDENT

    def test_a_plan_changes_only_for_more_than_two_points_and_when_told_twice(self) -> None:
        chooser = Chooser()
        assert chooser.take(choice(resident=0.30, min_=0.10)).policy is Policy.RESIDENT
        little = choice(resident=0.30, min_=0.299 + SWITCH_GAIN)
        much = choice(resident=0.30, min_=0.40)
        assert [chooser.take(each).policy for each in (little, little, much)] == [Policy.RESIDENT] * 3
        assert chooser.take(little).policy is Policy.RESIDENT
        assert [chooser.take(each).policy for each in (much, much)] == [Policy.RESIDENT, Policy.MIN]
        assert chooser.plan.hit_ratio == 0.40
        chooser.forget()
        assert chooser.take(choice(resident=0.30, min_=0.29)).policy is Policy.RESIDENT


class TestFuture:
    def test_one_chunk_is_wanted_as_in_an_array(self) -> None:
        data = Data(blocks=32, object_blocks=8)
        future = future_of(shuffled(data, 2, 0), shuffled(data, 2, 1), in_order(data))
        future.courses[0].move(0, 100)
        objects = np.repeat([future.number(each.key) for each in data.objects()], data.object_chunks)
        chunks = np.tile(np.arange(data.object_chunks), len(data.objects()))
        wanted = future.wanted(objects, chunks)
        for at, (number, chunk) in enumerate(zip(objects.tolist(), chunks.tolist(), strict=True)):
            one = future.wanted_one(number, chunk)
            assert one == (wanted.until_s[at], wanted.after_s[at], wanted.part[at], wanted.dense[at])

    def test_the_sooner_of_two_jobs_counts_and_the_later_one_comes_behind(self) -> None:
        near, far = in_order(position=0), in_order(position=8)
        near.rate = far.rate = 1.0
        future = future_of(near, far)
        number = future.number(KEY)
        assert future.wanted_one(number, 1)[:2] == (4.0, 64 + 4 - 8)
        assert future.wanted_one(number, 2)[:2] == (0.0, 8.0)

    def test_objects_of_no_course_have_no_future(self) -> None:
        future = future_of(in_order())
        wanted = future.wanted_one(future.number(STRANGER), 0)
        assert wanted.until_s == wanted.after_s == float("inf")
        assert not np.isfinite(future.wanted(np.array([future.number(STRANGER)]), np.array([0])).until_s[0])

    def test_a_block_over_two_objects_has_chunks_of_both_and_no_footer(self) -> None:
        data = Data(blocks=8, object_blocks=4)  # 16 MiB and 4 KiB an object: 17 chunks
        geometry = data.geometry([each.key for each in data.objects()])
        assert list(geometry.chunks_of(4)) == [(1, 0, 5)]
        wide = type(geometry)(geometry.keys, geometry.first_chunks, geometry.starts[[3]], geometry.ends[[4]],
                              geometry.first_chunks[:-1].astype(np.uint64) * np.uint64(1 << 20)
                              + np.uint64(15 << 20))  # fmt: skip
        assert list(wide.chunks_of(0)) == [(0, 12, 3), (1, 0, 5)]
        assert geometry.place(17) == (1, 0)


def windowless() -> Course:
    """Chunk c is in use from position 4c on: a job in order that is no scan."""

    class Ordered(Course):
        is_dense = False

    course = in_order()
    return Ordered(course.name, course.geometry, course.order)


def future_of(*courses: Course) -> Future:
    future = Future()
    future.set_courses(courses)
    return future


def choice(*, resident: float, min_: float) -> Choice:
    costs = {Policy.RESIDENT: Cost(resident, 0.0, 0.0), Policy.MIN: Cost(min_, 0.0, 0.0)}
    return Choice(costs=costs, sampled=1, chunks=1, members=EVERYBODY)


def hash_of(chunk: int) -> int:
    return int(chunk_hashes(np.array([object_hash(KEY)], np.uint64), np.array([chunk], np.int64))[0])
