"""Mixtures in torch, and together with what else a loader can do: budgets, homes, lanes of several sources."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import fastfeed as ff
import fastfeed.torch as fft
from fastfeed.loader.home_deal import HomeDeal
from fastfeed.loader.sampler import Picks
from fastfeed.loader.steps import Step
from tests.helpers.loader_data import write_rows, write_tokens

SIZES = (90, 40)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> ff.Mixture:
    root = tmp_path_factory.mktemp("sources")
    return ff.Mixture([write_rows(root / str(number), size) for number, size in enumerate(SIZES)], repeats=[1, 2])


def test_the_torch_loader_says_of_which_source_samples_are(mixture):
    came: Counter[tuple[int, int]] = Counter()
    with fft.Loader(mixture, batch_size=32, last="short", columns=["id", "vector"]) as loader:
        for batch in loader:
            assert batch.source.dtype == torch.int64
            assert torch.equal(batch["id"], batch.rows)
            came.update(zip(batch.source.tolist(), batch.rows.tolist(), strict=True))
    assert came == Counter({(0, row): 1 for row in range(90)} | {(1, row): 2 for row in range(40)})


@pytest.mark.parametrize(("workers", "start"), [(0, None), (2, "fork")])
def test_an_iterable_dataset_of_a_mixture_goes_through_workers(mixture, workers, start):
    dataset = fft.IterableDataset(mixture, columns=["id"], seed=4)
    ids: list[int] = []
    for batch in DataLoader(dataset, batch_size=16, num_workers=workers, multiprocessing_context=start):
        ids += batch["id"].tolist()
    if workers == 0:
        assert ids == mixture.order(seed=4).rows(0, len(mixture)).rows.tolist()
    assert Counter(ids) == Counter({row: 1 + 2 * (row < 40) for row in range(90)})
    assert len(dataset) == len(mixture) == 170


def test_an_iterable_dataset_of_a_mixture_resumes(mixture):
    dataset = fft.IterableDataset(mixture, columns=["id"], seed=4)
    whole = [int(sample["id"]) for sample in dataset]
    samples = iter(dataset)
    for _ in range(70):
        next(samples)
    again = pickle.loads(pickle.dumps(dataset))
    again.load_state_dict(dataset.state_dict())
    assert [int(sample["id"]) for sample in again] == whole[70:]
    with pytest.raises(ff.ConfigError, match="proportions"):
        fft.IterableDataset(ff.Mixture(mixture.datasets, repeats=[1, 1]), seed=4).load_state_dict(dataset.state_dict())


def test_a_map_style_dataset_of_a_mixture_has_no_meaning(mixture):
    with pytest.raises(ff.ConfigError, match="has positions"):
        fft.MapDataset(mixture)


# --- together with other options ----------------------------------------------------------------------------------

def test_steps_of_a_mixture_are_packed_by_the_lengths_of_each_sources_rows(tmp_path):
    corpora = [write_tokens(tmp_path / name, documents) for name, documents in (("a", 60), ("b", 30))]
    mixture = ff.Mixture(corpora, repeats=[1, 2])
    came: list[tuple[int, int]] = []
    for rank in range(2):
        options: dict[str, Any] = {"rank": rank, "world_size": 2, "global_max_tokens": 40, "last": "short", "seed": 2}
        with ff.Loader(mixture, **options) as loader:
            for batch in loader:
                lengths = np.diff(batch["tokens"].offsets)
                assert lengths.sum() <= 40
                assert (lengths[batch.valid] == batch.rows[batch.valid] % 10).all()
                came += [pair for pair, valid in zip(zip(batch.source.tolist(), batch.rows.tolist(), strict=True),
                                                     batch.valid.tolist(), strict=True) if valid]
    assert Counter(came) == Counter({(0, row): 1 for row in range(60)} | {(1, row): 2 for row in range(30)})


def test_samples_of_a_mixture_go_to_the_homes_of_their_own_blocks(mixture):
    nodes = ["a", "a", "b", "b"]
    order = mixture.order(seed=1)
    step = Step(range(64))
    deals = [HomeDeal(rank, nodes, mixture.datasets) for rank in range(4)]
    picks = order.picks(np.arange(64))
    shares = [deal.share(step, lambda: picks) for deal in deals]
    assert sorted(np.concatenate(shares).tolist()) == list(range(64))
    for number, dataset in enumerate(mixture.datasets):
        own = picks.sources == number
        alone = HomeDeal(0, nodes, [dataset]).homes(Picks(picks.rows[own]))
        assert (deals[0].homes(picks)[own] == alone).all()


def test_weights_of_rows_are_for_one_dataset(mixture):
    with pytest.raises(ff.ConfigError, match="draws the rows of one dataset"):
        ff.Loader(mixture, batch_size=4, weights="weight")
