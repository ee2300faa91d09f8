"""fastfeed itself: its datasets on the local disk, its loader with its defaults, and without a cache.

Variants: "" gives what the loader gives, records as two buffers; "bytes" cuts them into a list of bytes; "arrays" is
the loader without torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastfeed as ff
from peers.workloads import EMBEDDING, SIDE, WINDOW, Raw, Workload

SCHEMAS = {
    "images": {"number": ff.Scalar("int64"), "image": ff.Image()},
    "photos2048": {"number": ff.Scalar("int64"), "image": ff.Image()},
    "small": {"record": ff.Bytes()},
    "mixed": {"number": ff.Scalar("int64"), "image": ff.Image(), "caption": ff.Text(),
              "embedding": ff.Tensor("float16", (EMBEDDING,)), "label": ff.Scalar("int64")},
}
CROPS = {"random": [ff.image.RandomResizedCrop(SIDE), ff.image.RandomHorizontalFlip()],
         "center": [ff.image.Resize(256), ff.image.CenterCrop(SIDE)]}
SHARD_SIZE = "64MiB"
# A document of the token stream; windows cross them.
DOCUMENT_WINDOWS = 1000


def write(raw: Raw, data: str, folder: Path) -> None:
    if data == "tokens":
        with ff.TokenWriter(folder, dtype="uint16", shard_size=SHARD_SIZE) as tokens:
            windows = raw.windows()
            for start in range(0, len(windows), DOCUMENT_WINDOWS):
                tokens.write(windows[start : start + DOCUMENT_WINDOWS].reshape(-1))
        return
    with ff.DatasetWriter(folder, ff.Schema(SCHEMAS[data]), shard_size=SHARD_SIZE) as writer:
        for sample in raw.samples(data):
            writer.write(sample)


def loader(work: Workload, folder: Path, workers: int, variant: str) -> Any:
    return Batches(native_loader(work, folder, workers, variant), work, variant)


def native_loader(work: Workload, folder: Path, workers: int, variant: str) -> Any:
    dataset: Any = ff.open(folder, cache="off")
    transforms: dict[str, list[Any]] = {}
    if work.data == "tokens":
        dataset = dataset.windows(WINDOW, stride=WINDOW)
        transforms = {"tokens": [ff.Cast("int64")]}
    elif work.crop:
        transforms = {"image": CROPS[work.crop]}
    if variant == "arrays":
        return ff.Loader(dataset, batch_size=work.batch, last="short", threads=workers, transforms=transforms)
    import fastfeed.torch as fft

    return fft.Loader(dataset, batch_size=work.batch, last="short", threads=workers, transforms=transforms)


class Batches:
    """The loader's batches in the common form."""

    def __init__(self, made: Any, work: Workload, variant: str) -> None:
        self.loader, self.work, self.variant = made, work, variant

    def __iter__(self) -> Iterator[Any]:
        if self.work.data == "tokens":
            return (batch["tokens"] for batch in self.loader)
        if self.work.data == "small":
            return map(as_list if self.variant == "bytes" else as_buffers, self.loader)
        if self.work.data == "mixed":
            return ((batch["image"], batch["caption"], batch["embedding"], batch["label"], batch["number"])
                    for batch in self.loader)
        return ((batch["image"], batch["number"]) for batch in self.loader)


def as_buffers(batch: Any) -> Any:
    """Two arrays or tensors: the bytes of all records, and where they begin and end."""
    return batch["record"].values, batch["record"].offsets


def as_list(batch: Any) -> list[bytes]:
    values, offsets = batch["record"].values.numpy(), batch["record"].offsets.tolist()
    together = values.tobytes()
    return [together[start:stop] for start, stop in itertools.pairwise(offsets)]


def getter(folder: Path) -> Callable[[int], bytes]:
    dataset = ff.open(folder, cache="off")
    return lambda number: dataset[number]["record"]  # type: ignore[no-any-return]


def taker(folder: Path) -> Callable[[list[int]], Any]:
    dataset = ff.open(folder, cache="off")
    return lambda numbers: as_buffers(dataset.take(numbers))


class Resumable:
    def __init__(self, work: Workload, folder: Path, workers: int, variant: str) -> None:
        self.loader = native_loader(work, folder, workers, variant)

    def __iter__(self) -> Iterator[Any]:
        return map(as_buffers, self.loader)

    def state(self) -> Any:
        return self.loader.state_dict()

    def resumed(self, state: Any) -> Iterator[Any]:
        self.loader.load_state_dict(state)
        return iter(self)
