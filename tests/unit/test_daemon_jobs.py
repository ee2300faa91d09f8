"""The jobs of a pool in simulated time: what is fetched ahead, what stays, who counts. No sockets, no waiting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastfeed.cache.future import CHUNK_BYTES, Course, OrderShape, geometry_of
from fastfeed.cache.policy import Policy
from fastfeed.daemon.jobs import BLOCKS_LOOKED_AT_MAX, IDLE_S, report_of
from fastfeed.daemon.prefetch import Ahead, Run, runs_of
from fastfeed.order import Order, ShuffleMode
from tests.helpers.cache_world import Data, Reader, World

SMALL = Data(blocks=64, block_rows=8, row_bytes=512 << 10)  # 256 MiB
EPOCH_S = 100.0


def join(world: World, data: Data = SMALL, **options: object) -> Reader:
    return world.join(data, rate=data.rows / EPOCH_S, **options)  # type: ignore[arg-type]


class TestPrefetch:
    def test_what_fits_is_fetched_once_and_is_there_before_it_is_needed(self) -> None:
        world = World(300, ahead_bytes=16 << 20)
        reader = join(world, window=4)
        world.run(3 * EPOCH_S)
        assert world.writes == len(world.held)
        assert world.origin_bytes <= 1.05 * SMALL.data_bytes
        assert reader.origin_bytes == 0

    def test_the_blocks_of_an_epoch_come_in_the_order_of_their_uses_and_go_on_into_the_next(self) -> None:
        order = OrderShape(SMALL.rows, 5, ShuffleMode.WINDOW, 4, SMALL.block_rows)
        geometry = SMALL.geometry([each.key for each in SMALL.objects()])
        for position in (0, 1, 100, SMALL.rows - 1, SMALL.rows):
            course = Course("job", geometry, order, epoch=1, position=position)
            ahead = Ahead(course)
            found = []
            for at in range(1, 3):
                while (head := ahead.head()) is not None:
                    found.append(head)
                    ahead.advance()
                assert max(each.epoch for each in found) == at + 1  # never further than the epoch after the job's
                course.epoch = at + 1  # and then on from there
            due = [max(0, head.distance + SMALL.rows * (head.epoch == 3)) for head in found]
            assert due == sorted(due)
            for epoch in (2, 3):
                blocks = [head.block for head in found if head.epoch == epoch]
                assert set(blocks) == set(range(SMALL.blocks))
                uses = course.uses(epoch)
                assert len(blocks) == sum(len(uses.block_use(block)) for block in range(SMALL.blocks))
            rest = {head.block for head in found if head.epoch == 1}
            rows = Order(SMALL.rows, 5, 1, "window", 4, SMALL.block_rows).rows(position, SMALL.rows)
            assert set((rows // SMALL.block_rows).tolist()) <= rest

    @pytest.mark.parametrize("position", [0, 1, 100, SMALL.rows - 1])
    def test_where_slots_are_scarce_each_chunk_comes_with_the_first_of_its_rows(self, position: int) -> None:
        data = Data(blocks=24, block_rows=16, row_bytes=150_000, object_blocks=24)
        order = OrderShape(data.rows, 5, ShuffleMode.WINDOW, 4, data.block_rows)
        geometry = data.geometry([each.key for each in data.objects()])
        course = Course("job", geometry, order, position=position % data.rows)
        ahead = Ahead(course)
        ahead.cuts = True
        named: dict[tuple[int, int], list[int]] = {}
        last = -data.rows
        while (head := ahead.head()) is not None:
            assert head.distance >= last
            last = head.distance
            (_, chunk, count), *others = head.chunks
            assert (count, others) == (1, [])
            named.setdefault((head.epoch, chunk), []).append(head.distance)
            ahead.advance()
        for epoch in range(2):
            rows = Order(data.rows, 5, epoch, "window", 4, data.block_rows).rows(0, data.rows).tolist()
            first: dict[int, int] = {}
            for at, row in enumerate(rows):
                if (epoch, at) >= (0, course.position):
                    for _, chunk, _ in data.pieces(row):
                        first.setdefault(chunk, at + epoch * data.rows - course.position)
            assert {chunk: min(found) for (of, chunk), found in named.items() if of == epoch} == first
            # A chunk of two blocks is named for each, and a block that is open over the epoch's end has two uses.
            assert max(len(found) for (of, _), found in named.items() if of == epoch) <= 4

    def test_chunks_of_many_rows_are_not_cut(self) -> None:
        data = Data(blocks=8, block_rows=1024, row_bytes=1024, object_blocks=8)
        order = OrderShape(data.rows, 5, ShuffleMode.WINDOW, 2, data.block_rows)
        ahead = Ahead(Course("job", data.geometry([each.key for each in data.objects()]), order))
        ahead.cuts = True
        head = ahead.head()
        assert head is not None
        assert sum(count for _, _, count in head.chunks) >= data.block_bytes // CHUNK_BYTES

    def test_a_full_shuffle_asks_for_blocks_as_rows_need_them_and_for_the_last_quarter_chunk_by_chunk(self) -> None:
        order = OrderShape(SMALL.rows, 0, ShuffleMode.FULL, 1, SMALL.block_rows)
        course = Course("job", SMALL.geometry([each.key for each in SMALL.objects()]), order)
        ahead = Ahead(course)
        named = []
        while (head := ahead.head()) is not None and head.epoch == 0:
            named.append(head)
            ahead.advance()
        rows = Order(SMALL.rows, 0, 0, "full").rows(0, SMALL.rows).tolist()
        blocks = list(dict.fromkeys(row // SMALL.block_rows for row in rows))
        whole = SMALL.blocks * 3 // 4
        early, late = named[:whole], named[whole:]
        assert [head.block for head in early] == blocks[:whole]
        assert {head.block for head in late} == set(blocks[whole:])
        for head in late:
            (_, chunk, count), = head.chunks
            of_block = [at for at, row in enumerate(rows) if row // SMALL.block_rows == head.block
                        and chunk in [each for _, each, _ in SMALL.pieces(row)]]  # fmt: skip
            assert (head.distance, count) == (of_block[0], 1)
        assert [head.distance for head in late] == sorted(head.distance for head in late)

    def test_runs_are_of_neighbours_in_one_object_and_of_up_to_eight_chunks(self) -> None:
        chunks = [(0, 3), (0, 4), (1, 5), *((1, chunk) for chunk in range(7, 17))]
        assert list(runs_of(iter(chunks))) == [Run(0, 3, 2), Run(1, 5, 1), Run(1, 7, 8), Run(1, 15, 2)]
        assert list(runs_of(iter([]))) == []

    def test_the_nearest_deadline_of_all_jobs_comes_first(self) -> None:
        world = World(600, ahead_bytes=64 << 20)
        slow, fast = join(world, window=4), join(world, window=4, seed=1)
        slow.rate /= 10
        world.run(30)
        deadlines = [run.deadline_s for run in world.jobs.next_fetches(1 << 30)]
        assert deadlines == sorted(deadlines)
        assert fast.position > slow.position

    def test_no_more_is_fetched_ahead_than_is_allowed(self) -> None:
        world = World(600, ahead_bytes=12 << 20)
        join(world, window=4)
        world.run(20)
        assert 0 < world.jobs.prefetched_bytes <= (12 << 20) + SMALL.block_bytes
        assert list(world.jobs.next_fetches(1 << 30)) == []

    def test_the_budget_of_one_call_is_kept_but_for_a_block(self) -> None:
        world = World(600, ahead_bytes=1 << 30)
        join(world, window=4)
        taken = sum(run.count for run in world.jobs.next_fetches(6 << 20))
        assert 6 <= taken <= 6 + SMALL.block_bytes // CHUNK_BYTES + 1

    def test_data_far_smaller_than_what_may_be_fetched_ahead_is_looked_at_for_two_epochs_not_for_ever(self) -> None:
        for window in (1, 4):
            world = World(600, ahead_bytes=1 << 40)
            join(world, Data(blocks=3, block_rows=8, row_bytes=64), window=window)
            # The use of a block may be cut by the end of an epoch: it is named twice then.
            assert sum(run.count for run in world.jobs.next_fetches(1 << 30)) <= 2 * 2 * 3
            assert list(world.jobs.next_fetches(1 << 30)) == []

    def test_data_without_rows_has_no_future(self) -> None:
        geometry = SMALL.geometry([each.key for each in SMALL.objects()])
        for shuffle in ShuffleMode:
            course = Course("job", geometry, OrderShape(0, 0, shuffle, 1, SMALL.block_rows))
            assert Ahead(course).head() is None

    def test_one_call_looks_at_so_many_blocks_and_the_next_one_goes_on(self) -> None:
        world = World(4096, ahead_bytes=1 << 40)
        data = Data(blocks=2 * BLOCKS_LOOKED_AT_MAX, block_rows=2, row_bytes=512 << 10)
        join(world, data, window=4)
        for _ in range(2):
            assert sum(run.count for run in world.jobs.next_fetches(1 << 40)) >= BLOCKS_LOOKED_AT_MAX

    def test_a_jump_begins_the_prefetch_anew(self) -> None:
        world = World(600, ahead_bytes=8 << 20)
        reader = join(world, window=4)
        world.run(20)
        reader.epoch = reader.page.epoch = 7
        reader.position = reader.page.position = 100
        world.run(1)
        course = world.jobs.courses[0]
        assert (course.epoch, course.position) == (7, 100)
        world.run(20)
        assert reader.origin_bytes < 40 << 20


class TestLooks:
    def test_nothing_is_looked_for_while_all_is_here_and_again_from_the_jobs_place_on_when_a_chunk_goes(self) -> None:
        world = World(300, ahead_bytes=16 << 20)
        assert not world.jobs.needs_looks
        reader = join(world, window=4)
        assert world.jobs.needs_looks
        world.run(1.5 * EPOCH_S)
        assert not world.jobs.needs_looks
        fetched, epoch = world.origin_bytes, reader.epoch
        world.run(EPOCH_S)
        assert world.origin_bytes == fetched
        assert world.jobs.courses[0].epoch == epoch + 1
        row = int(reader.order().rows(reader.position + 200, reader.position + 201)[0])
        _, chunk, _ = SMALL.pieces(row)[0]
        world.drop(reader.objects[0].key, chunk)
        assert world.jobs.needs_looks
        world.run(0.4 * EPOCH_S)
        assert (reader.objects[0].key, chunk) in world.held
        assert reader.origin_bytes == 0
        assert not world.jobs.needs_looks

    def test_a_pool_that_is_smaller_than_the_data_is_looked_after(self) -> None:
        world = World(64)
        join(world, window=2)
        world.run(EPOCH_S)
        assert world.jobs.needs_looks

    def test_the_chunks_that_blocks_lie_in_are_all_but_headers_and_footers(self) -> None:
        geometry = geometry_of([b"a" * 16, b"b" * 16], [5 * CHUNK_BYTES, 3 * CHUNK_BYTES],
                               np.array([CHUNK_BYTES + 7, 2 * CHUNK_BYTES, 6 * CHUNK_BYTES], np.uint64),
                               np.array([2 * CHUNK_BYTES, 6 * CHUNK_BYTES, 6 * CHUNK_BYTES], np.uint64),
                               [3 * CHUNK_BYTES + 1, 3 * CHUNK_BYTES])  # fmt: skip
        expected = {geometry.first_chunks[which] + chunk + more for block in range(3)
                    for which, chunk, count in geometry.chunks_of(block) for more in range(count)}  # fmt: skip
        assert set(np.flatnonzero(geometry.read_chunks()).tolist()) == expected == {1, 2, 3, 5}


class TestWhoCounts:
    def test_a_node_is_where_the_last_of_its_ranks_is(self) -> None:
        world = World(300)
        ranks = [join(world, window=4, job="train", rank=rank, world_size=2) for rank in range(2)]
        ranks[0].rate *= 2
        world.run(10)
        assert len(world.jobs.courses) == 1
        assert world.jobs.courses[0].position == ranks[1].page.position or ranks[1].position < ranks[0].position
        ranks[1].stopped = True
        world.run(IDLE_S + 2)
        assert world.jobs.courses[0].epoch * SMALL.rows + world.jobs.courses[0].position > ranks[1].position

    def test_the_same_rank_twice_is_two_jobs(self) -> None:
        world = World(300)
        join(world, window=4, job="train")
        join(world, window=4, job="train")
        assert len(world.jobs.courses) == 2

    def test_a_job_that_stands_still_has_no_future_until_it_moves(self) -> None:
        world = World(300)
        reader = join(world, window=4)
        world.run(10)
        reader.stopped = True
        world.run(IDLE_S + 1)
        assert world.jobs.courses == []
        assert world.jobs.prefetched_bytes == 0
        assert list(world.jobs.next_fetches(1 << 30)) == []
        reader.stopped = False
        world.run(2)
        assert len(world.jobs.courses) == 1

    def test_who_has_ended_leaves_nothing_behind(self) -> None:
        world = World(300)
        reader = join(world, window=4)
        world.run(5)
        world.jobs.unregister(reader.number)
        world.jobs.unregister(reader.number)
        assert world.jobs.registrations == {}
        assert world.jobs.courses == []

    @pytest.mark.parametrize(
        "page",
        [{"epoch": 1 << 40}, {"position": SMALL.rows + 1}, {"registration": 99}, {"is_page": False}, {"position": -1}],
    )
    def test_nonsense_in_a_page_moves_nobody(self, page: dict[str, int]) -> None:
        world = World(300)
        reader = join(world, window=4, position=8)
        vars(reader.page).update({"position": 16, **page})
        world.jobs.tick()
        assert (world.jobs.courses[0].epoch, world.jobs.courses[0].position) == (0, 8)

    def test_a_recipe_that_does_not_fit_its_fingerprint_is_opaque(self) -> None:
        world = World(300)
        reader = join(world, window=4)
        rows = reader.order()
        good = replace(reader.recipe, fingerprint=[(0, rows[0]), (9, rows[9])])
        bad = replace(reader.recipe, fingerprint=[(0, rows[0]), (9, rows[10])])
        for recipe, is_opaque in ((good, False), (bad, True)):
            made = world.register(reader, recipe)
            assert (made.job is None) is is_opaque
        assert "position 9 is row" in made.why_opaque

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"kind": "opaque"}, "follow no single order"),
            ({"order": {"version": 1}}, "has version 1"),
            ({"order": {"version": 2, "shuffle": "sometimes"}}, "makes no sense"),
        ],
    )
    def test_what_cannot_be_computed_is_opaque_and_says_why(self, change: dict[str, object], why: str) -> None:
        world = World(300)
        reader = join(world, window=4)
        world.leave(reader)
        made = world.register(reader, replace(reader.recipe, **change))  # type: ignore[arg-type]
        assert why in made.why_opaque
        assert world.jobs.courses == []
        assert world.jobs.forecast(made.number) is None
        world.jobs.tick()
        assert not world.jobs.is_exact(reader.objects[0].key, 0)

    def test_a_set_that_is_no_dataset_is_opaque(self) -> None:
        world = World(300)
        reader = join(world, window=4)
        made = world.register(reader, reader.recipe, is_dataset=False)
        assert made.why_opaque == "the set is no dataset of fastfeed"


class TestWhatStays:
    def test_two_jobs_on_one_pool_hit_about_what_the_simulation_promised(self) -> None:
        data = Data(blocks=320, block_rows=4, row_bytes=4 << 20, object_blocks=64)
        world = World(data.data_bytes // 4 >> 20, ahead_bytes=64 << 20)
        for seed in range(2):
            join(world, data, seed=seed, window=4, position=seed * data.rows // 3)
        world.run(1.2 * EPOCH_S)
        before = world.totals()
        world.run(1.3 * EPOCH_S)
        assert world.jobs.plan.policy is Policy.MIN
        hits = world.hit_ratio(before)
        assert hits > 0.38
        assert hits == pytest.approx(world.jobs.plan.hit_ratio, abs=0.06)

    def test_a_stopped_job_costs_the_other_at_most_a_twentieth(self) -> None:
        def origin_bytes(*, with_stopped: bool) -> int:
            world = World(64)
            join(world, window=2)
            other = join(world, window=2, seed=1) if with_stopped else None
            world.run(EPOCH_S)
            if other is not None:
                other.stopped = True
            world.run(EPOCH_S)
            before = world.origin_bytes
            world.run(2 * EPOCH_S)
            return world.origin_bytes - before

        assert origin_bytes(with_stopped=True) <= 1.05 * origin_bytes(with_stopped=False)

    @pytest.mark.parametrize("comes_back", [True, False])
    def test_a_thousand_evaluations_write_nothing(self, comes_back: bool) -> None:
        """They read 8 MiB in order, with a loader each, or with one that waits between its epochs."""
        evaluation = Data(blocks=2, block_rows=4, row_bytes=1 << 20, object_blocks=2, name="evaluation")
        writes = []
        for passes in (0, 1000):
            world = World(64)
            join(world, window=2)
            world.run(1.5 * EPOCH_S)
            before = world.writes
            loader: Reader | None = None
            for number in range(1000):
                if number < passes and (loader is None or not comes_back):
                    loader = world.join(evaluation, window=None, rate=evaluation.rows * 10.0, job="evaluation")
                if loader is not None:
                    loader.stopped = False
                    world.run(0.1, tick_s=0.1)
                    loader.stopped = True
                    if not comes_back:
                        world.leave(loader)
                        loader = None
                else:
                    world.run(0.1, tick_s=0.1)
            writes.append(world.writes - before)
            named = {key for key, _ in [*world.held, *world.evictions]}
            assert not any(key.startswith(b"evaluation") for key in named)
        # The training's own: one chunk more or less, as time goes by in other steps.
        assert writes[1] <= 1.02 * writes[0]

    def test_a_pool_smaller_than_the_active_blocks_reads_exact_bytes_and_keeps_its_residents(self) -> None:
        world = World(24)
        join(world, window=16)
        world.run(EPOCH_S)
        before, writes = world.totals(), world.writes
        world.run(EPOCH_S)
        assert world.evictor.active_exceeds
        assert world.writes == writes
        assert world.hit_ratio(before) > 0.05
        assert world.totals()[1] - before[1] <= SMALL.data_bytes


class TestForecasts:
    def test_what_fits_is_promised_to_hit(self) -> None:
        world = World(300)
        reader = join(world, window=4)
        forecast = world.jobs.forecast(reader.number)
        assert forecast is not None
        assert forecast.text == "all of it fits: 100 % hits after one epoch"
        world.run(30)
        assert report_of(world.jobs.forecast(reader.number))["hit_ratio"] == 1.0

    def test_a_stall_is_foretold_from_the_origins_limit(self) -> None:
        world = World(64)
        world.jobs.origin_bytes_per_s = 1 << 20
        reader = join(world, window=2)
        first = world.jobs.forecast(reader.number)
        assert first is not None
        assert first.text == "hits are being computed"
        world.run(40)
        forecast = world.jobs.forecast(reader.number)
        assert forecast is not None
        assert forecast.job_bytes_per_s == pytest.approx(SMALL.data_bytes / EPOCH_S, rel=0.1)
        assert forecast.will_stall
        assert forecast.text.endswith("MB/s from the origin, will stall: the origin's limit is 1.0 MB/s")
        world.jobs.origin_bytes_per_s = 1 << 40
        world.run(20)
        reader.rate *= 2
        world.run(60)
        forecast = world.jobs.forecast(reader.number)
        assert forecast is not None
        assert forecast.text.endswith("will not stall")

    def test_a_pool_without_jobs_forgets_its_plan(self) -> None:
        world = World(64)
        reader = join(world, window=2)
        world.run(30)
        known = [world.jobs.last_choice]
        world.leave(reader)
        world.run(20)
        known.append(world.jobs.last_choice)
        assert [each is None for each in known] == [False, True]
        assert not report_of(None)
