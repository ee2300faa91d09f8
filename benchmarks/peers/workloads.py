"""What is measured: the workloads, and the samples of which each contender makes a dataset of its own.

Runs in every contender's environment: it needs numpy and nothing else. A sample is a dict; `number` is its place in the
raw data, by which a delivered sample is recognised.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

WINDOW = 2048
SIDE = 224
EMBEDDING = 768


@dataclass(frozen=True, slots=True)
class Workload:
    """`data` names what it reads, `unit` what is counted; `crop` says how images are cropped."""

    name: str
    data: str
    batch: int
    unit: str
    crop: str = ""


WORKLOADS = {each.name: each for each in (
    Workload("images", "images", 256, "images", "random"),
    Workload("images-center", "images", 256, "images", "center"),
    Workload("photos2048", "photos2048", 32, "images", "random"),
    Workload("tokens", "tokens", 16, "windows"),
    Workload("small", "small", 512, "records"),
    Workload("mixed", "mixed", 256, "samples", "random"),
)}


class Raw:
    """The raw data under `folder`, as data.py made them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "raw"

    def count(self, data: str) -> int:
        made = json.loads((self.folder / data / "made.json").read_text())["count"]
        return made // WINDOW if data == "tokens" else made

    def size_bytes(self, data: str) -> int:
        """What all samples have together."""
        size = json.loads((self.folder / data / "made.json").read_text())["bytes"]
        return size + (self.size_bytes("images") if data == "mixed" else 0)

    def image_file(self, data: str, number: int) -> Path:
        if data == "photos2048":
            return self.folder / data / f"{number:06}.jpg"
        return self.folder / "images" / f"{number % 100:03}" / f"{number:06}.jpg"

    def image(self, data: str, number: int) -> bytes:
        return self.image_file(data, number).read_bytes()

    def windows(self) -> npt.NDArray[np.uint16]:
        tokens: npt.NDArray[np.uint16] = np.memmap(self.folder / "tokens" / "tokens.bin", np.uint16, "r")
        return tokens.reshape(-1, WINDOW)

    def records(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """All bytes, mapped, and where records begin and end."""
        return self._pieces("small", "records.bin")

    def captions(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        return self._pieces("mixed", "captions.bin")

    def embeddings(self) -> npt.NDArray[np.float16]:
        embeddings: npt.NDArray[np.float16] = np.load(self.folder / "mixed" / "embeddings.npy", mmap_mode="r")
        return embeddings

    def samples(self, data: str, start: int = 0, stop: int | None = None) -> Iterator[dict[str, Any]]:
        """images, photos2048: number, image (bytes). mixed: these, caption (str), embedding (768 float16), label.
        tokens: tokens (2,048 uint16). small: record (bytes), whose number stands in it.
        """
        numbers = range(start, self.count(data) if stop is None else stop)
        if data == "tokens":
            windows = self.windows()
            for number in numbers:
                yield {"tokens": np.asarray(windows[number])}
        elif data == "small":
            pieces, offsets = self.records()
            for number in numbers:
                yield {"record": pieces[offsets[number] : offsets[number + 1]].tobytes()}
        elif data == "mixed":
            (pieces, offsets), embeddings = self.captions(), self.embeddings()
            for number in numbers:
                caption = pieces[offsets[number] : offsets[number + 1]].tobytes().decode("ascii")
                yield {"number": number, "image": self.image(data, number), "caption": caption,
                       "embedding": np.asarray(embeddings[number]), "label": number % 100}
        else:
            for number in numbers:
                yield {"number": number, "image": self.image(data, number)}

    def _pieces(self, data: str, file: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        return np.memmap(self.folder / data / file, np.uint8, "r"), np.load(self.folder / data / "offsets.npy")


def number_of_record(record: Any) -> int:
    """Records begin with {"id":"0000017"."""
    return int(bytes(record[7:14]))
