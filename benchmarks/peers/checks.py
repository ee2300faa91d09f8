"""Whether an epoch had every sample once with its own bytes, and how well it was shuffled."""

from __future__ import annotations

import itertools
import zlib
from typing import Any

import numpy as np

from peers.workloads import WINDOW, Raw, Workload, number_of_record

# One image in so many is decoded again and compared; each takes a millisecond.
IMAGES_A_CHECK = 8
# Mean difference in levels between two decoders and resizers of the same picture: libjpeg's two chroma upsamplings and
# the usual filters differ by less; another picture differs by 30 and more.
LEVELS_MAX = 12.0


class Check:
    """Is fed every batch of an epoch; raises at a wrong byte."""

    def __init__(self, work: Workload, raw: Raw) -> None:
        self.work, self.raw = work, raw
        self.numbers: list[int] = []
        self.levels = 0.0
        if work.data == "tokens":
            # Windows are known by their bytes: nothing else of them arrives.
            self.of_window: dict[int, list[int]] = {}
            for number, window in enumerate(raw.windows()):
                self.of_window.setdefault(zlib.crc32(window.tobytes()), []).append(number)
        elif work.data == "small":
            self.pieces, self.offsets = raw.records()
        elif work.data == "mixed":
            (self.pieces, self.offsets), self.embeddings = raw.captions(), raw.embeddings()

    def add(self, batch: Any) -> None:
        if self.work.data == "tokens":
            self.add_tokens(np.asarray(batch))
        elif self.work.data == "small":
            self.add_records(records_of(batch))
        else:
            self.add_images(batch)

    def add_tokens(self, windows: Any) -> None:
        assert windows.dtype == np.int64
        assert windows.shape[1:] == (WINDOW,), windows.shape
        for window in windows.astype(np.uint16):
            same = self.of_window[zlib.crc32(window.tobytes())]
            # Equal windows have one number each; the last one stays, so that one too many is seen as a repetition.
            self.numbers.append(same.pop() if len(same) > 1 else same[0])

    def add_records(self, records: list[bytes]) -> None:
        for record in records:
            number = number_of_record(record)
            wanted = self.pieces[self.offsets[number] : self.offsets[number + 1]]
            assert bytes(record) == wanted.tobytes(), f"record {number} has wrong bytes"
            self.numbers.append(number)

    def add_images(self, batch: Any) -> None:
        images, numbers = np.asarray(batch[0]), np.asarray(batch[-1]).tolist()
        assert images.dtype == np.uint8
        assert images.shape == (len(numbers), 3, 224, 224), images.shape
        if self.work.crop == "center":
            for at in range(0, len(numbers), IMAGES_A_CHECK):
                self.compare(images[at], numbers[at])
        if self.work.data == "mixed":
            captions, embeddings, labels = texts_of(batch[1]), np.asarray(batch[2]), np.asarray(batch[3]).tolist()
            for number, caption, embedding, label in zip(numbers, captions, embeddings, labels, strict=True):
                wanted = self.pieces[self.offsets[number] : self.offsets[number + 1]].tobytes().decode()
                assert (caption, label) == (wanted, number % 100), f"sample {number} has another caption or label"
                assert (embedding == self.embeddings[number]).all(), f"sample {number} has another embedding"
        self.numbers += numbers

    def compare(self, image: Any, number: int) -> None:
        from peers.pixels import cropped

        wanted = cropped(self.raw.image(self.work.data, number), "center", scaled=False).transpose(2, 0, 1)
        difference = float(np.abs(wanted.astype(int) - image).mean())
        assert difference <= LEVELS_MAX, f"image {number} differs by {difference:.1f} levels"
        self.levels = max(self.levels, difference)

    def result(self) -> dict[str, Any]:
        count = self.raw.count(self.work.data)
        numbers = np.asarray(self.numbers)
        distinct = len(np.unique(numbers))
        assert distinct == len(numbers), f"{len(numbers) - distinct} samples came again"
        step = float(np.abs(np.diff(numbers)).mean() / count) if len(numbers) > 1 else 0.0
        return {"delivered": len(numbers), "wanted": count, "once": len(numbers) == distinct == count,
                "mean_step": step, "levels": self.levels}


def records_of(batch: Any) -> list[bytes]:
    """A list of records as it is; two buffers (bytes, offsets) cut to one."""
    if not isinstance(batch, tuple):
        return list(batch)
    together = batch[0] if isinstance(batch[0], bytes) else np.asarray(batch[0]).tobytes()
    offsets = np.asarray(batch[1]).tolist()
    return [together[start:stop] for start, stop in itertools.pairwise(offsets)]


def texts_of(captions: Any) -> list[str]:
    return [text.decode() if isinstance(text, bytes) else str(text)
            for text in (captions if isinstance(captions, list) else captions.tolist())]


def count_of(work: Workload, batch: Any) -> int:
    if work.data == "tokens":
        return len(batch)
    if work.data == "small":
        return len(batch[1]) - 1 if isinstance(batch, tuple) else len(batch)
    return len(batch[-1])
