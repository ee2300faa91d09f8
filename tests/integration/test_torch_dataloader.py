"""fastfeed.torch in a plain DataLoader, with workers forked and spawned."""

import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.utils.data
from torch.utils.data import DataLoader

import fastfeed.torch as fft
from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import ConfigError, TransformError
from fastfeed.loader import image
from tests.helpers import loader_callables as functions
from tests.helpers.loader_data import sample_of, write_images, write_rows

ROWS = 130
COLUMNS = ["id", "vector", "text"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_rows(tmp_path_factory.mktemp("rows") / "data", ROWS)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_images(tmp_path_factory.mktemp("images") / "data", 24)


def dataloader(dataset: torch.utils.data.Dataset[Any], workers: int, start: str, **options: Any) -> DataLoader[Any]:
    context = start if workers else None
    return DataLoader(dataset, batch_size=16, num_workers=workers, multiprocessing_context=context, **options)


@pytest.mark.parametrize(("workers", "start"), [(0, "fork"), (2, "fork")])
def test_a_map_dataset_gives_every_row_once_in_a_plain_dataloader(dataset, workers, start):
    ids = []
    for batch in dataloader(fft.MapDataset(dataset, columns=COLUMNS), workers, start, shuffle=True):
        ids += batch["id"].tolist()
        for number, row in enumerate(batch["id"].tolist()):
            assert batch["text"][number] == sample_of(row)["text"]
            assert batch["vector"][number].tolist() == [row] * 16
    assert sorted(ids) == list(range(ROWS))


def test_a_map_dataset_is_a_sequence_of_samples(dataset):
    samples = fft.MapDataset(dataset, columns=["id", "text", "boxes", "meta", "weight"])
    assert len(samples) == ROWS
    sample = samples[3]
    assert sample["id"].dtype == torch.int64
    assert sample["id"].shape == ()
    assert sample["boxes"].shape == (3, 4)
    assert sample["meta"] == {"row": 3}
    assert samples[0]["weight"] is None
    assert samples[-1]["id"] == ROWS - 1
    assert [sample["id"].item() for sample in samples.__getitems__([5, -1, 5])] == [5, ROWS - 1, 5]
    for outside in (ROWS, -ROWS - 1):
        with pytest.raises(IndexError, match="does not exist"):
            samples[outside]


def test_a_map_dataset_opens_a_url_and_runs_callables_per_sample(dataset):
    samples = fft.MapDataset(dataset.url, columns=["id", "text"], transforms={"text": functions.upper},
                             map_sample=functions.with_length)
    assert samples[1]["text"] == "THIS IS ROW 1 " * 2
    assert samples[1]["length"] == 28


def test_a_map_dataset_refuses_what_it_cannot_do(dataset):
    with pytest.raises(ConfigError, match="nope"):
        fft.MapDataset(dataset, columns=["nope"])
    with pytest.raises(ConfigError, match="set_epoch"):
        fft.MapDataset(dataset).set_epoch(-1)


def ids_of(samples: Any) -> list[int]:
    return [sample["id"].item() for sample in samples]


def test_datasets_accept_the_names_of_other_loaders(dataset):
    plain = ids_of(fft.IterableDataset(dataset, columns=["id"], seed=3, last="drop", rank=1, world_size=4))
    other = ids_of(fft.IterableDataset(remote=dataset.url, columns=["id"], shuffle_seed=3, drop_last=True, rank=1,
                                       world_size=4, cache_limit="1gb", shuffle=True))
    assert plain == other
    assert len(plain) == ROWS // 4
    assert fft.MapDataset(remote=dataset.url, shuffle_seed=3)[5]["id"] == 5


@pytest.mark.parametrize("kind", [fft.MapDataset, fft.IterableDataset])
@pytest.mark.parametrize("on_error", ["raise", "skip", "substitute"])
def test_datasets_have_no_mask_for_bad_samples(dataset, kind, on_error):
    with pytest.raises(ConfigError, match="no mask"):
        kind(dataset, on_error=on_error)


@pytest.mark.parametrize("kind", [fft.MapDataset, fft.IterableDataset])
def test_datasets_refuse_what_they_cannot_honour(dataset, kind):
    for keyword in ({"batch_size": 4}, {"num_workers": 2}, {"collate_fn": len}, {"prefetch": "1MiB"},
                    {"persistent_workers": True}):
        with pytest.raises(ConfigError, match="belongs to the DataLoader"):
            kind(dataset, **keyword)
    with pytest.raises(ConfigError, match="Did you mean columns="):
        kind(dataset, colums=["id"])
    with pytest.raises(ConfigError, match="no dataset"):
        kind([1, 2, 3])
    with pytest.raises(ConfigError, match="one dataset"):
        kind(dataset, remote=dataset.url)
    with pytest.raises(ConfigError, match="mean the same"):
        kind(dataset, seed=1, shuffle_seed=1)


@pytest.mark.parametrize(("workers", "start"), [(0, "fork"), (2, "fork"), (1, "spawn")])
def test_a_dataset_itself_goes_into_a_plain_dataloader(dataset, workers, start):
    assert dataset[0]["id"] == 0  # what the parent opened must not disturb its children
    seen = []
    for batch in dataloader(dataset, workers, start, shuffle=True, collate_fn=list):
        seen += [sample["id"] for sample in batch]
        assert all(sample["text"] == sample_of(sample["id"])["text"] for sample in batch)
    assert sorted(seen) == list(range(ROWS))


class SumsOfEpochs(torch.utils.data.Dataset[int]):
    """Each item iterates over a loader, in whatever process it is asked for."""

    def __init__(self, loader: fft.Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return 4

    def __getitem__(self, item: int) -> int:
        return sum(int(batch["id"].sum()) for batch in self.loader)


def test_a_loader_that_has_run_runs_again_in_forked_workers(dataset):
    sums = SumsOfEpochs(fft.Loader(dataset, batch_size=50, columns=["id"], last="short"))
    assert sums[0] == sum(range(ROWS))
    totals = [int(total) for total in DataLoader(sums, batch_size=None, num_workers=2, multiprocessing_context="fork")]
    assert totals == [sum(range(ROWS))] * 4


def crops(images: Dataset, seed: int = 0) -> fft.MapDataset:
    chain = [image.RandomResizedCrop(8), image.RandomHorizontalFlip()]
    return fft.MapDataset(images, transforms={"image": chain}, seed=seed)


def pixels(loader: DataLoader[Any]) -> torch.Tensor:
    return torch.cat([batch["image"] for batch in loader])


@pytest.mark.parametrize(("workers", "start"), [(2, "fork"), (1, "spawn")])
def test_set_epoch_reaches_persistent_workers_and_randomness_is_keyed_by_row(images, workers, start):
    samples = crops(images)
    loader = dataloader(samples, workers, start, persistent_workers=True)
    epochs = []
    for epoch in (0, 1, 0):
        samples.set_epoch(epoch)
        epochs.append(pixels(loader))
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(epochs[0], torch.stack([crops(images)[row]["image"] for row in range(24)]))
    assert not torch.equal(epochs[0], pixels(dataloader(crops(images, seed=1), 0, "fork")))


def test_a_map_dataset_pickles_small_and_keeps_its_epoch(images):
    samples = crops(images)
    samples.set_epoch(3)
    expected = samples[5]["image"]
    copy = pickle.loads(pickle.dumps(samples))
    assert torch.equal(copy[5]["image"], expected)


@pytest.mark.parametrize(("world", "workers", "start"),
                         [(1, 0, "fork"), (1, 2, "fork"), (3, 2, "fork"), (1, 1, "spawn")])
def test_an_iterable_dataset_gives_every_row_once_over_ranks_and_workers(dataset, world, workers, start):
    ids = []
    for rank in range(world):
        samples = fft.IterableDataset(dataset, columns=COLUMNS, rank=rank, world_size=world)
        mine = [row for batch in dataloader(samples, workers, start) for row in batch["id"].tolist()]
        assert len(mine) == len(samples)
        ids += mine
    assert sorted(ids) == list(range(ROWS))


def test_an_iterable_dataset_without_workers_follows_the_order(dataset):
    samples = fft.IterableDataset(dataset, columns=["id"], seed=4)
    with fft.Loader(dataset, batch_size=1, seed=4, columns=["id"]) as loader:
        expected = loader.order.rows(0, ROWS).tolist()
    assert [int(sample["id"]) for sample in samples] == expected
    samples.set_epoch(1)
    changed = [int(sample["id"]) for sample in samples]
    assert changed != expected
    assert sorted(changed) == sorted(expected)


def test_drop_gives_ranks_equally_many(dataset):
    def count(rank: int) -> int:
        samples = fft.IterableDataset(dataset, columns=["id"], last="drop", rank=rank, world_size=4)
        assert len(samples) == len(list(samples))
        return len(samples)

    assert [count(rank) for rank in range(4)] == [32] * 4
    with pytest.raises(ConfigError, match="last='pad'"):
        fft.IterableDataset(dataset, last="pad")


def resumed(samples: fft.IterableDataset, state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    samples.load_state_dict(json.loads(json.dumps(state)))
    return iter(samples)


@pytest.mark.parametrize("count", [0, 1, 64, 65, 129, 130])
def test_an_iterable_dataset_goes_on_where_its_state_was_taken(dataset, count):
    samples = fft.IterableDataset(dataset, columns=["id"])
    samples.set_epoch(2)
    iterator = iter(samples)
    first = [int(next(iterator)["id"]) for _ in range(count)]
    state = samples.state_dict()
    rest = [int(sample["id"]) for sample in resumed(fft.IterableDataset(dataset, columns=["id"]), state)]
    assert sorted(first + rest) == list(range(ROWS))


def test_after_a_resumed_iteration_the_next_one_is_whole(dataset):
    samples = fft.IterableDataset(dataset, columns=["id"])
    next(iter(samples))
    other = fft.IterableDataset(dataset, columns=["id"])
    assert len(list(resumed(other, samples.state_dict()))) == ROWS - 1
    assert len(list(other)) == ROWS


def test_a_state_of_other_shares_or_of_a_loader_is_refused(dataset):
    state = fft.IterableDataset(dataset, rank=1, world_size=2).state_dict()
    with pytest.raises(ConfigError, match="share 1 of 2"):
        next(resumed(fft.IterableDataset(dataset), state))
    with pytest.raises(ConfigError, match="seed 0"):
        fft.IterableDataset(dataset, seed=1).load_state_dict(state)
    with fft.Loader(dataset, batch_size=4) as loader, pytest.raises(ConfigError, match="state of a Loader"):
        fft.IterableDataset(dataset).load_state_dict(loader.state_dict())


def test_the_torch_loader_gives_tensors_of_real_rows(dataset):
    with fft.Loader(dataset, batch_size=50, last="short") as loader:
        for batch in loader:
            for number, row in enumerate(batch.rows.tolist()):
                expected = sample_of(row)
                assert batch["text"][number] == expected["text"]
                assert batch["vector"][number].tolist() == expected["vector"].tolist()
                assert batch["boxes"][number].shape == expected["boxes"].shape
            assert batch.nulls["weight"].dtype == torch.bool
            assert len(batch) == len(batch.rows)


def test_a_result_that_does_not_unpickle_says_so(dataset):
    with fft.Loader(dataset, batch_size=50, columns=["id"], collate_fn=functions.does_not_unpickle, python_workers=1,
                    python_mode="processes") as loader, pytest.raises(TransformError, match="does not unpickle"):
        next(iter(loader))


def test_tensors_in_processes_arrive_whole(dataset):
    with fft.Loader(dataset, batch_size=50, columns=["id", "text"], shuffle=False, map_sample=functions.with_length,
                    python_workers=1, python_mode="processes") as loader:
        batch = next(iter(loader))
    assert batch["id"].tolist() == list(range(50))
    assert batch["length"][1] == 28
    assert isinstance(batch["id"], torch.Tensor)
