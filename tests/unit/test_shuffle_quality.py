"""The numbers of shuffle quality: on shuffles whose numbers are known, and the bounds that the order keeps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from fastfeed.dataset.commit import block_rows_of
from fastfeed.errors import ConfigError
from fastfeed.loader.shuffle_quality import (
    LabelClasses,
    SortedClasses,
    chunk_needs,
    class_distance,
    iid_distance,
    neighbour_distance,
    storage_load,
)
from fastfeed.order import Order

Rows = npt.NDArray[np.int64]
WINDOW_BLOCKS, GROUP_SLOTS = 1024, 8
MIB = 1 << 20


def rows_of(rows: Rows) -> Callable[[int, int], Rows]:
    return lambda start, stop: rows[start:stop]


def identity(rows: Rows) -> Rows:
    return rows


class TestDefinitions:
    @pytest.mark.parametrize(("classes", "batch"), [(2, 1), (10, 256), (100, 256), (1000, 64), (1, 5)])
    def test_the_distance_of_an_iid_draw_is_that_of_many_draws(self, classes: int, batch: int) -> None:
        random = np.random.default_rng(1)
        draws = [np.bincount(random.integers(0, classes, batch), minlength=classes) for _ in range(4000)]
        mean = np.mean([np.abs(draw / batch - 1 / classes).sum() / 2 for draw in draws])
        assert iid_distance(SortedClasses(1000, classes).shares, batch) == pytest.approx(mean, rel=0.02, abs=1e-9)

    def test_a_sorted_epoch_has_one_class_a_batch(self) -> None:
        distance = class_distance([rows_of(np.arange(1000))], SortedClasses(1000, 10), 100)
        assert distance.first * distance.iid == pytest.approx(0.9)
        assert (distance.first, distance.fifth, distance.median) == pytest.approx((distance.last,) * 3)

    def test_a_dealt_epoch_has_no_distance(self) -> None:
        rows = np.arange(1000).reshape(10, 100).T.ravel()
        assert class_distance([rows_of(rows)], SortedClasses(1000, 10), 100).median == pytest.approx(0)

    def test_classes_that_do_not_divide_the_rows_are_weighed_by_their_rows(self) -> None:
        """7 rows of 3 classes are 3, 2, 2: one batch of all has no distance."""
        assert class_distance([rows_of(np.arange(7))], SortedClasses(7, 3), 7).first == pytest.approx(0)

    def test_neighbours_of_a_sorted_epoch_are_one_position_apart(self) -> None:
        near = neighbour_distance(identity, 1000, 10)
        assert near.epoch_share == pytest.approx(0.001)
        assert near.same_batch == pytest.approx(0.9, abs=0.01)

    def test_a_chunk_is_needed_anew_after_more_than_a_window(self) -> None:
        """Two chunks of four rows. The first is used at 0, 1, 3 and 7, the second at 2, 4, 5 and 6."""
        positions = np.array([0, 1, 3, 7, 2, 4, 5, 6])

        def needs(window: int) -> list[int]:
            return chunk_needs(positions.__getitem__, 8, MIB // 4, window).tolist()

        assert needs(8) == needs(4) == [0, 2]
        assert needs(3) == [0, 2, 7]
        assert needs(1) == [0, 2, 3, 4, 7]

    def test_rows_across_chunks_need_both(self) -> None:
        """Three rows of 1.5 MiB in order: chunks 0 and 1, chunks 1 and 2, chunks 3 and 4."""
        assert chunk_needs(identity, 3, MIB * 3 // 2, 1).tolist() == [0, 0, 1, 2, 2]

    def test_reading_in_order_asks_evenly_and_once(self) -> None:
        load = storage_load(identity, 10_000, 10_000, 1000, 100, 100)
        assert load.windows_per_chunk == 1.0
        assert load.chunk_count == 96
        assert load.window_peak is not None
        assert load.window_peak < 1.2  # 11 chunks in a window that holds 9.5
        assert not load.is_sample

    def test_a_full_shuffle_asks_for_everything_at_once(self) -> None:
        order = Order(100_000, shuffle="full")
        needs = chunk_needs(order.positions_of, 100_000, 1000, 100_000)
        assert len(needs) == 96
        assert needs[-1] < 2000

    def test_what_makes_no_batch_is_said(self) -> None:
        with pytest.raises(ConfigError, match="5 rows give no batch of 6"):
            class_distance([rows_of(np.arange(5))], SortedClasses(5, 2), 6)

    def test_more_classes_than_rows_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="5 rows cannot be sorted by 6 classes"):
            SortedClasses(5, 6)

    def test_labels_are_classes_whatever_they_are(self) -> None:
        """Of uneven size, in any order: read in order, each batch of 4 is one label of the two."""
        labels = LabelClasses([7] * 4 + [-3] * 8)
        assert labels.of(np.array([0, 4, 3])).tolist() == [1, 0, 1]
        distance = class_distance([rows_of(np.arange(12))], labels, 4)
        assert distance.first * distance.iid == pytest.approx(2 / 3)
        assert distance.last * distance.iid == pytest.approx(1 / 3)
        random = np.random.default_rng(1)
        shares = random.binomial(4, 1 / 3, 20_000) / 4
        assert distance.iid == pytest.approx(np.abs(shares - 1 / 3).mean(), rel=0.02)


# Rows and their bytes: 10 MB to 10 TB. The largest sets' chunks are sampled where nothing else is asked for.
SIZES = [(rows, row_bytes) for row_bytes in (1_000, 30_000, 1_000_000) for rows in (10**4, 10**5, 10**6, 10**7)]


class TestBounds:
    @pytest.mark.parametrize(("row_count", "row_bytes"), SIZES)
    @pytest.mark.parametrize("class_count", [10, 100])
    def test_batches_of_a_sorted_dataset_are_as_mixed_as_an_iid_draw(
        self, row_count: int, row_bytes: int, class_count: int
    ) -> None:
        """First, fifth, median and last batch of 256, mean of 48 epochs."""
        block_rows = block_rows_of(row_count, row_count * row_bytes)
        orders = [Order(row_count, seed=5, epoch=epoch, block_rows=block_rows) for epoch in range(48)]
        distance = class_distance([order.rows for order in orders], SortedClasses(row_count, class_count), 256)
        assert max(distance.first, distance.fifth, distance.median, distance.last) < 1.25

    @pytest.mark.parametrize(("row_count", "row_bytes"), [size for size in SIZES if size[0] < 10**7])
    def test_storage_is_asked_evenly(self, row_count: int, row_bytes: int) -> None:
        """The peak of new chunks in any window, the epoch's beginning included, and in steps behind it; and in how
        many windows a chunk is needed. Datasets of 2 to 5 windows come to 1.4: docs/shuffle-quality.md says why."""
        block_rows = block_rows_of(row_count, row_count * row_bytes)
        blocks = row_count // block_rows
        window_rows = WINDOW_BLOCKS * block_rows if blocks > WINDOW_BLOCKS else row_count
        order = Order(row_count, seed=5, block_rows=block_rows)
        load = storage_load(order.positions_of, row_count, row_bytes, window_rows, GROUP_SLOTS * block_rows, 256)
        assert load.window_peak is not None
        assert load.window_peak <= 2
        assert load.steady_peak is None or load.steady_peak <= 2
        assert load.windows_per_chunk <= (1.4 if WINDOW_BLOCKS < blocks < 5 * WINDOW_BLOCKS else 1.3)
        if blocks <= WINDOW_BLOCKS:
            assert load.windows_per_chunk == 1.0

    def test_a_set_too_large_to_place_is_sampled(self) -> None:
        order = Order(10**9, block_rows=419)
        load = storage_load(order.positions_of, 10**9, 10_000, 1024 * 419, 8 * 419, 256)
        assert load.is_sample
        assert load.window_peak is load.steady_peak is None
        assert 1.2 < load.windows_per_chunk <= 1.3

    def test_neighbours_end_up_a_third_of_a_window_apart(self) -> None:
        """Of two blocks' delays the difference is a third on average; of an epoch in one window, of the epoch."""
        near = neighbour_distance(Order(10**7, block_rows=41).positions_of, 10**7, 256)
        assert near.median_batches == pytest.approx(0.293 * 1024 * 41 / 256, rel=0.1)  # the median of a triangle
        assert near.same_batch < 0.005
        near = neighbour_distance(Order(10**6, block_rows=4194).positions_of, 10**6, 256)
        assert near.epoch_share == pytest.approx(1 / 3, rel=0.02)
