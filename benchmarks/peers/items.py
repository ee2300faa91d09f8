"""From stored samples to items, and from items to batches, for contenders that have neither a decoder nor a collation
that is as fast.

An item is (pixels, number) of an image, an array of tokens, a record's bytes, or (pixels, number, caption, embedding,
label). All of it pickles, since some contenders' workers are spawned. Imports torch only where tensors are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from peers.workloads import SIDE, Workload

# Variants of adapters that decode smaller where they may.
SCALED = "scaled"


@dataclass(frozen=True, slots=True)
class Finish:
    """A stored sample, as the dict it was written as, to an item."""

    work: Workload
    scaled: bool = False

    def __call__(self, sample: Any) -> Any:
        if self.work.data == "tokens":
            return np.asarray(sample["tokens"])
        if self.work.data == "small":
            return sample["record"]
        pixels, number = self.pixels(sample["image"]), int(sample["number"])
        if self.work.data == "mixed":
            return pixels, number, sample["caption"], np.asarray(sample["embedding"]), int(sample["label"])
        return pixels, number

    def pixels(self, jpeg: Any) -> npt.NDArray[np.uint8]:
        from peers.pixels import cropped

        return cropped(jpeg, self.work.crop, self.scaled)


@dataclass(frozen=True, slots=True)
class Collate:
    """Items to a batch of tensors; records stay a list, and so do captions."""

    work: Workload

    def __call__(self, items: Any) -> Any:
        import torch

        if self.work.data == "tokens":
            return torch.from_numpy(np.stack(items).astype(np.int64))
        if self.work.data == "small":
            return list(items)
        images = shared_images(len(items))
        return batch_of_images(self.work, items, images, images.numpy(), torch.as_tensor)


@dataclass(frozen=True, slots=True)
class CollateArrays:
    """As Collate, to arrays of numpy."""

    work: Workload

    def __call__(self, items: Any) -> Any:
        if self.work.data == "tokens":
            return np.stack(items).astype(np.int64)
        if self.work.data == "small":
            return list(items)
        images = np.empty((len(items), 3, SIDE, SIDE), np.uint8)
        return batch_of_images(self.work, items, images, images, np.asarray)


def batch_of_images(work: Workload, items: Any, images: Any, planes: Any, column: Any) -> Any:
    from peers.pixels import into_planes

    into_planes([item[0] for item in items], planes)
    numbers = column([item[1] for item in items])
    if work.data != "mixed":
        return images, numbers
    return (images, [item[2] for item in items], column(np.stack([item[3] for item in items])),
            column([item[4] for item in items]), numbers)


def shared_images(count: int) -> Any:
    """A tensor for the pixels; in a worker of a DataLoader where the trainer sees it without another copy."""
    import torch

    shape = (count, 3, SIDE, SIDE)
    if torch.utils.data.get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    storage = torch.UntypedStorage._new_shared(count * 3 * SIDE * SIDE, device="cpu")
    return torch.empty(0, dtype=torch.uint8).set_(storage, 0, shape)
