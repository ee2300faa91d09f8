"""No reader delivers wrong bytes: whatever happens to the files of a dataset, before it is opened or after, every
sample on every path is what was written, or an error, or a hole that says so.

FASTFEED_DAMAGES=N runs N damages for each dataset; the default is small.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastfeed as ff
import fastfeed.torch as fft
from fastfeed._native.feed import Reader
from fastfeed.dataset.batch import Batch
from fastfeed.dataset.dataset import Dataset
from fastfeed.dataset.lanes import lane_schema
from fastfeed.dataset.outputs import kind_names, output_specs
from fastfeed.errors import CorruptDataError, FormatVersionError
from fastfeed.format import reference
from tests.helpers.damage import Damage, damages, undone
from tests.helpers.shards import same
from tests.helpers.small_datasets import NAMES, files_of, write_small

DAMAGES = int(os.environ.get("FASTFEED_DAMAGES", "25"))
# What a reader may say of a damaged dataset. A missing file is an OSError.
ERRORS = (CorruptDataError, FormatVersionError, OSError)
WINDOW_TOKENS = 700

Delivered = Iterator[tuple[Any, Any]]  # (what was asked for, what came)


def plain(value: Any) -> Any:
    """Arrays and tensors as what can be compared."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if hasattr(value, "dtype"):
        return str(value.dtype), value.tolist()
    return value


def asked(question: Any, answer: Callable[[], Any]) -> Delivered:
    """One answer, or none where it is an error that says so."""
    try:
        value = plain(answer())
    except ERRORS:
        return
    yield question, value


def by_number(dataset: Dataset) -> Delivered:
    for row in range(len(dataset)):
        yield from asked(row, lambda row=row: dataset[row])  # type: ignore[misc]


def by_slice(dataset: Dataset) -> Delivered:
    yield from asked("all", lambda: [plain(sample) for sample in dataset[:]])
    yield from asked("some", lambda: [plain(sample) for sample in dataset[4:1:-2]])


def by_take(dataset: Dataset) -> Delivered:
    rows = [3, 0, 3, len(dataset) - 1]
    yield from asked("take", lambda: dataset.take(rows).to_dict())
    for name in list(dataset.schema) if dataset.layout == "rows" else []:
        yield from asked(name, lambda name=name: dataset.take(rows, columns=[name]).to_dict())  # type: ignore[misc]


def rows_of(batch: Any, columns: dict[str, list[Any]]) -> Delivered:
    for at, (row, valid) in enumerate(zip(batch.rows.tolist(), batch.valid.tolist(), strict=True)):
        if valid:
            yield row, {name: plain(column[at]) for name, column in columns.items()}


def batches(loader: Any) -> Iterator[Any]:
    """The batches until the end or an error."""
    with loader:
        try:
            yield from loader
        except ERRORS:
            return


def by_loader(dataset: Dataset, **options: Any) -> Delivered:
    for batch in batches(ff.Loader(dataset, batch_size=2, threads=2, last="short", rank=0, world_size=1, **options)):
        yield from rows_of(batch, batch.to_dict())


def by_loader_with_holes(dataset: Dataset, **options: Any) -> Delivered:
    loader = ff.Loader(dataset, batch_size=4, on_error="skip", last="short", rank=0, world_size=1, threads=2, **options)
    for batch in batches(loader):
        for column in batch.values():
            if isinstance(column, np.ndarray):
                assert not column[~batch.valid].any(), "a hole is zeros"
        yield from rows_of(batch, batch.to_dict())


def by_loader_with_substitutes(dataset: Dataset) -> Delivered:
    """A substitute is a sample of the dataset, though not the one of its row."""
    loader = ff.Loader(dataset, batch_size=4, on_error="substitute", last="short", rank=0, world_size=1, threads=1)
    for batch in batches(loader):
        columns = batch.to_dict()
        yield from rows_of(batch, columns)
        for at in np.flatnonzero(~batch.valid):
            yield "any", {name: plain(column[at]) for name, column in columns.items()}


def by_filter(dataset: Dataset) -> Delivered:
    """Rows that a lane chose."""
    for name in lane_schema(dataset.schema).names[:1]:
        if "." in name:
            return
        yield from asked("chosen", lambda name=name: list(map(plain, dataset.filter(f"{name} != 1"))))  # type: ignore[misc]


def by_faulty_engine(dataset: Dataset, script: str) -> Delivered:
    """The native reader over storage that fails by script, however whole the files are."""
    names = list(dataset.schema)
    kinds = kind_names(dataset.schema, names)
    outputs = output_specs(dataset.schema, names)
    try:
        reader = Reader(dataset.native_snapshot(f"fault:{script}"), outputs, threads=2, on_error="skip")
    except ERRORS:
        return
    rows = np.arange(len(dataset))
    physical = dataset.physical_rows(rows)
    for start in range(0, len(rows), 2):
        reader.submit(physical[start : start + 2], rows[start : start + 2], 0, 0)
    while reader.pending():
        try:
            batch = Batch.from_native(reader.next(30.0), names, kinds)
        except ERRORS:
            continue
        batch.rows = batch.positions  # view rows
        yield from rows_of(batch, batch.to_dict())
    reader.close()


def by_torch_loader(dataset: Dataset) -> Delivered:
    loader = fft.Loader(dataset, batch_size=3, shuffle=False, last="short", rank=0, world_size=1, threads=1)
    for batch in batches(loader):
        yield from rows_of(batch, {name: column.tolist() for name, column in batch.items()})


def by_map_dataset(dataset: Dataset) -> Delivered:
    samples = fft.MapDataset(dataset)
    for row in range(len(dataset)):
        yield from asked(row, lambda row=row: samples[row])  # type: ignore[misc]


def by_iterable_dataset(dataset: Dataset) -> Delivered:
    samples = iter(fft.IterableDataset(dataset, shuffle=False, rank=0, world_size=1))
    try:
        for row, sample in enumerate(samples):
            yield row, plain(sample)
    except ERRORS:
        return


def decoded(dataset: Dataset) -> Delivered:
    crops = {"image": [ff.image.RandomResizedCrop(5), ff.image.RandomHorizontalFlip()]}
    yield from by_loader_with_holes(dataset, transforms=crops, seed=5)


def by_windows(dataset: Dataset) -> Delivered:
    windows = dataset.windows(WINDOW_TOKENS, stride=WINDOW_TOKENS // 2)
    yield from by_number(windows)
    yield from by_loader_with_holes(windows)


def by_view(dataset: Dataset) -> Delivered:
    """A filter that keeps every row, and parts of it."""
    lane = lane_schema(dataset.schema).names[0]

    def numbers() -> Any:
        view = dataset.filter(f'lane("{lane}") is null or lane("{lane}") is not null')
        parts = view.split({"a": 0.5, "b": 0.5})
        return [sorted(part.physical_rows(np.arange(len(part))).tolist()) for part in (view, *parts.values())]

    yield from asked("rows", numbers)
    yield from asked("samples", lambda: [plain(sample) for sample in dataset.select([3, 0, 3])])


PATHS: dict[str, Callable[[Dataset], Delivered]] = {
    "ds[i]": by_number,
    "ds[a:b]": by_slice,
    "take": by_take,
    "Loader, raise": by_loader,
    "Loader, skip": by_loader_with_holes,
    "Loader, skip, in order": lambda dataset: by_loader_with_holes(dataset, shuffle=False),
    "a storage that flips bits": lambda dataset: by_faulty_engine(dataset, "...f.z"),
    "a storage that fails": lambda dataset: by_faulty_engine(dataset, ".s..E"),
    "Loader, substitute": by_loader_with_substitutes,
    "filter": by_filter,
    "torch Loader": by_torch_loader,
    "MapDataset": by_map_dataset,
    "IterableDataset": by_iterable_dataset,
    "views": by_view,
}
MORE_PATHS: dict[str, dict[str, Callable[[Dataset], Delivered]]] = {
    "images": {"decoded": decoded},
    "tokens": {"windows": by_windows},
}
# What these deliver of a whole dataset is not all of it.
OPTIONAL = ("filter",)  # streams have no lane to choose by, and some datasets none without a dot
INCOMPLETE = ("a storage that flips bits", "a storage that fails")


class Ground(NamedTuple):
    """A dataset, its files, what each path delivers of it, and the files of another one."""

    place: Path
    files: list[Path]
    expected: dict[str, list[tuple[Any, Any]]]
    paths: dict[str, Callable[[Dataset], Delivered]]
    others: list[Path]

    def __repr__(self) -> str:
        return f"Ground({self.place.parent.name})"  # what Hypothesis prints

    def open(self) -> Dataset:
        """The snapshot that was written last: without its manifest there is an older one, which is another dataset."""
        return ff.open(self.place, snapshot=max(int(file.stem) for file in self.files if "manifests" in str(file)))


@pytest.fixture(scope="module", params=NAMES)
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp(request.param)
    place = write_small(folder / "set", request.param)
    other = write_small(folder / "other", "fixed" if request.param == "images" else "images")
    paths = {**PATHS, **MORE_PATHS.get(request.param, {})}
    expected = {name: list(path(ff.open(place))) for name, path in paths.items()}
    for name, delivered in expected.items():
        assert delivered or name in (*INCOMPLETE, *OPTIONAL), name
    return Ground(place, files_of(place), expected, paths, files_of(other))


def expect_whole(ground: Ground) -> None:
    """The dataset is what it was."""
    dataset = ground.open()
    assert list(by_number(dataset)) == ground.expected["ds[i]"]


def expect_right_or_nothing(ground: Ground, dataset: Dataset) -> None:
    """Every path delivers what it would of a whole dataset, or leaves it out."""
    for name, path in ground.paths.items():
        right = ground.expected["Loader, skip" if name in INCOMPLETE else name]
        for question, answer in path(dataset):
            samples = [each for _, each in right]
            assert answer in samples if question == "any" else (question, answer) in right, (name, question)


def test_what_paths_deliver_of_a_whole_dataset_is_what_the_reference_reader_reads(ground: Ground) -> None:
    samples = reference.read_dataset(ground.place)
    dataset = ground.open()
    assert [same(dataset[row], sample) for row, sample in enumerate(samples)] == [True] * len(samples)
    for name in ("Loader, raise", "Loader, skip", "torch Loader", "MapDataset", "IterableDataset"):
        assert sorted(row for row, _ in ground.expected[name]) == list(range(len(samples))), name


@settings(max_examples=DAMAGES, deadline=None, suppress_health_check=list(HealthCheck))
@given(damages=damages(), opened_before=st.booleans())
def test_no_path_delivers_wrong_bytes(ground: Ground, damages: list[Damage], opened_before: bool) -> None:
    """The dataset may be open already, with its shards too, when the damage comes."""
    expect_whole(ground)
    dataset = ground.open() if opened_before else None
    if dataset is not None:
        assert len(list(islice(by_number(dataset), 1))) == 1
    with undone(ground.files):
        for damage in damages:
            damage.apply(ground.files, ground.others)
        with suppress(*ERRORS):  # it cannot be opened, or a path cannot begin
            expect_right_or_nothing(ground, dataset or ground.open())
    expect_whole(ground)
