"""FFCV: one file that it has encoded itself, decoding, cropping and batching in compiled threads.

It stores pictures by its own JPEG encoder, here of the same quality; its bytes differ from the raw ones a little.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import CenterCropRGBImageDecoder, IntDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import RandomHorizontalFlip, ToTensor, ToTorchImage
from ffcv.writer import DatasetWriter
from PIL import Image

from peers.workloads import SIDE, Raw, Workload

torch.set_num_threads(1)

QUALITY = 95
CENTER_SHARE = SIDE / 256
WRITERS = 2


class Pictures:
    def __init__(self, raw: Raw, data: str) -> None:
        self.raw, self.data, self.count = raw, data, raw.count(data)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Any, int]:
        with Image.open(io.BytesIO(self.raw.image(self.data, number))) as image:
            return np.asarray(image.convert("RGB")), number


def write(raw: Raw, data: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    fields = {"image": RGBImageField(write_mode="jpg", jpeg_quality=QUALITY), "number": IntField()}
    DatasetWriter(str(folder / "all.beton"), fields, num_workers=WRITERS).from_indexed_dataset(Pictures(raw, data))


class Batches:
    def __init__(self, made: Loader) -> None:
        self.loader = made

    def __iter__(self) -> Iterator[Any]:
        return ((images, numbers.flatten()) for images, numbers in self.loader)


def loader(work: Workload, folder: Path, workers: int, variant: str) -> Any:
    size = (SIDE, SIDE)
    if work.crop == "random":
        image = [RandomResizedCropRGBImageDecoder(size), RandomHorizontalFlip()]
    else:
        image = [CenterCropRGBImageDecoder(size, ratio=CENTER_SHARE)]
    pipelines = {"image": [*image, ToTensor(), ToTorchImage()], "number": [IntDecoder(), ToTensor()]}
    return Batches(Loader(str(folder / "all.beton"), batch_size=work.batch, num_workers=workers, drop_last=False,
                          order=OrderOption.RANDOM, os_cache=True, pipelines=pipelines))
