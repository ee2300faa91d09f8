"""Who takes part in what, and in which variants: the best of a contender's variants and worker counts counts."""

from __future__ import annotations

from dataclasses import dataclass

WORKERS = (1, 2, 3)
IMAGES = ("images", "images-center", "photos2048", "mixed")
PLAIN = ("", "scaled")


@dataclass(frozen=True, slots=True)
class Contender:
    """`adapter` is the module; `name` what a table calls it.

    variants: of each workload that it does, from which one is chosen by measuring.
    peer: whether it counts where the best peer is asked for; a loop without a loader does not.
    checked: False where another line's check holds for it too, or where it delivers nothing.
    torch: whether its processes import torch, whose memory is more than most loaders' own.
    points, start, resume: whether it takes part in these, the latter two over small records in this variant.
    """

    name: str
    adapter: str
    variants: dict[str, tuple[str, ...]]
    peer: bool = True
    points: bool = False
    start: str | None = None
    resume: str | None = None
    workers: tuple[int, ...] = WORKERS
    checked: bool = True
    torch: bool = True


def images_and(variants: tuple[str, ...], **others: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """`variants` where pictures are decoded; decoding at another scale is tried where pictures are large."""
    whole = tuple(variant for variant in variants if "scaled" not in variant)
    return {"images": whole, "images-center": whole, "photos2048": variants, "mixed": whole, **others}


CONTENDERS = (
    Contender("fastfeed", "fastfeed", dict.fromkeys((*IMAGES, "tokens", "small"), ("",)), peer=False, points=True,
              start="arrays", resume="", workers=(2,)),
    Contender("fastfeed, one thread", "fastfeed", dict.fromkeys((*IMAGES, "tokens", "small"), ("",)), peer=False,
              workers=(1,), checked=False),
    Contender("fastfeed, records as bytes", "fastfeed", {"small": ("bytes",)}, peer=False, workers=(2,)),
    Contender("files, DataLoader", "files", images_and(PLAIN)),
    Contender("simplejpeg alone, whole", "files", {"images": ("decoder alone",)}, peer=False, workers=(2,),
              checked=False),
    Contender("MosaicML Streaming", "mosaic", images_and(PLAIN, tokens=("",), small=("",)), points=True, start="",
              resume=""),
    Contender("LitData", "litdata", images_and(PLAIN, tokens=("",), small=("",)), points=True, start="", resume=""),
    Contender("WebDataset", "webdataset", images_and(PLAIN, tokens=("",), small=("",)), start=""),
    Contender("HF datasets, map", "hf", images_and(("map", "map scaled"), tokens=("map",), small=("map",)),
              points=True, start="map", resume="map"),
    Contender("HF datasets, iterable", "hf",
              images_and(("iterable", "iterable scaled"), tokens=("iterable",), small=("iterable",)),
              start="iterable"),
    Contender("Grain, ArrayRecord", "grain",
              images_and(("", " scaled"), tokens=("batches", "processes"), small=("batches", "processes")),
              points=True, start="batches", resume="batches", torch=False),
    Contender("Lance", "lance", images_and(PLAIN, tokens=("",), small=("",)), points=True, start="", resume=""),
    Contender("SPDL", "spdl", {"images": ("",), "images-center": ("",), "photos2048": PLAIN}),
    Contender("FFCV", "ffcv", dict.fromkeys(("images", "images-center", "photos2048"), ("",))),
    Contender("numpy.memmap, DataLoader", "memmap", {"tokens": ("",), "small": ("",)}, start="", resume=""),
    Contender("numpy.memmap by hand", "memmap", {"tokens": ("by hand",), "small": ("by hand",)}, peer=False,
              points=True, workers=(0,)),
    Contender("numpy.memmap by hand, two buffers", "memmap", {"small": ("buffers",)}, peer=False, workers=(0,)),
)
BY_NAME = {contender.name: contender for contender in CONTENDERS}
