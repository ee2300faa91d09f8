"""How fast this machine feeds a dataset, rung by rung: its stored bytes alone, samples by one thread, samples by all.

Each rung runs a loader without a framework and throws the batches away. The last rung is the result, the others say
what it is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastfeed.bench.diagnosis import Facts, busy_stages, diagnose
from fastfeed.bench.feeding import WARM_UP_SHARE, Rates, measure
from fastfeed.bench.page_cache import cached_share, drop, local_files
from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import ConfigError
from fastfeed.format.image_file import describe
from fastfeed.format.machine import usable_cores
from fastfeed.format.schema import Image
from fastfeed.loader.image import RandomHorizontalFlip, RandomResizedCrop
from fastfeed.loader.loader import Loader

# Of the time to measure, for the last rung; the others share the rest.
LAST_RUNG_SHARE = 0.6
# So many pictures tell the mean size to a few percent.
IMAGES_LOOKED_AT = 64
STORED_BYTES = "stored bytes"
SAMPLES = "samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderOptions:
    """What to measure. threads: of each rung that gives samples, the last is the result; None: 1, then the loader's
    choice."""

    seconds: float
    batch_size: int
    threads: tuple[int, ...] | None = None
    image_size: int = 224
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Rung:
    name: str  # STORED_BYTES | SAMPLES
    rates: Rates

    def as_dict(self) -> dict[str, Any]:
        return {"rung": self.name, **self.rates.as_dict()}


def climb(view: Dataset, options: LadderOptions) -> dict[str, Any]:
    """The report: what `fastfeed bench --json` prints."""
    files = local_files(view)
    if options.cold and files is None:
        raise ConfigError(f"{view.url}: --cold empties the page cache of files on this machine; evict a remote dataset "
                          f"instead: fastfeed cache evict {view.url}")
    images = [name for name, column in view.schema.items() if isinstance(column, Image)]
    batch_size = min(options.batch_size, len(view))
    cores = usable_cores()
    counts: tuple[int | None, ...] = options.threads or ((None,) if cores == 1 else (1, None))
    planned = [(SAMPLES, count) for count in counts]
    if images:
        planned.insert(0, (STORED_BYTES, counts[-1]))
    side_seconds = options.seconds * (1 - LAST_RUNG_SHARE) / max(1, len(planned) - 1)
    last_seconds = options.seconds * LAST_RUNG_SHARE if len(planned) > 1 else options.seconds
    crop = [RandomResizedCrop(options.image_size), RandomHorizontalFlip()]
    rungs, in_memory = [], None
    for number, (name, threads) in enumerate(planned):
        seconds = last_seconds if number == len(planned) - 1 else side_seconds
        if files is not None:
            if options.cold:
                drop(files)
            in_memory = cached_share(files)
        transforms = dict.fromkeys(images, crop) if name == SAMPLES else {}
        with Loader(view, batch_size=batch_size, transforms=transforms, threads=threads, rank=0,
                    world_size=1) as loader:
            rungs.append(Rung(name, measure(loader, seconds, 0 if options.cold else seconds * WARM_UP_SHARE)))
            stats = loader.stats()
    rates = rungs[-1].rates
    ones = [rung.rates for rung in rungs if rung.name == SAMPLES and rung.rates.threads == 1]
    found = diagnose(Facts(
        stages_s=busy_stages(rates.stages_s),
        wall_s=rates.seconds,
        cores_busy=rates.cores_busy,
        cores=cores,
        threads=rates.threads,
        speedup=rates.samples_per_s / ones[0].samples_per_s if ones and rates.threads > 1 else None,
        url=view.url,
        is_remote=files is None,
        tiers={tier: count for tier, count in stats["bytes"].items() if tier in ("local", "slab", "ring")},
        in_memory=in_memory,
        image_size=options.image_size if images else None,
        image_side=mean_shorter_side(view, images[0]) if images else None,
    ))
    return {
        "url": view.url,
        "snapshot": view.snapshot,
        "batch_size": batch_size,
        "image_size": options.image_size if images else None,
        "usable_cores": cores,
        "io": stats["io"],
        "batch_bytes": stats["bytes"]["batch"],
        "data_bytes": sum(shard.bytes for shard in view.shards()),
        "in_memory": in_memory,
        "cold": options.cold,
        **rates.as_dict(),
        "step_ms": round(1000 * batch_size / rates.samples_per_s, 3),
        "stages": rates.stages(),
        "ladder": [rung.as_dict() for rung in rungs],
        "bound_by": found.bound,
        "changes": list(found.changes),
    }


def mean_shorter_side(view: Dataset, column: str) -> float | None:
    """In pixels, over some pictures of the whole view; None where it has none."""
    rows = range(0, len(view), max(1, len(view) // IMAGES_LOOKED_AT))
    pictures: Sequence[bytes | None] = view.take(list(rows), columns=[column])[column].tolist()
    sides = [min(found["width"], found["height"]) for found in map(describe, filter(None, pictures))]
    return sum(sides) / len(sides) if sides else None
