"""How fast this machine feeds a dataset, rung by rung: its stored bytes alone, samples by one thread, samples by all.

Each rung runs a loader without a framework and throws the batches away. The last rung is the result, the others say
what it is made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
class Step:
    """What one rung measures, and for how long. threads: None is the loader's choice."""

    name: str  # STORED_BYTES | SAMPLES
    threads: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Rung:
    """What it gave."""

    step: Step
    rates: Rates
    in_memory: float | None  # share of the data in the page cache when it began; None: not known
    stats: Mapping[str, Any]  # of its loader

    def as_dict(self) -> dict[str, Any]:
        return {"rung": self.step.name, **self.rates.as_dict()}


def climb(view: Dataset, options: LadderOptions) -> dict[str, Any]:
    """The report: what `fastfeed bench --json` prints."""
    files = local_files(view)
    if options.cold and files is None:
        raise ConfigError(f"{view.url}: --cold empties the page cache of files on this machine; evict a remote dataset "
                          f"instead: fastfeed cache evict {view.url}")
    images = [name for name, column in view.schema.items() if isinstance(column, Image)]
    batch_size, cores = min(options.batch_size, len(view)), usable_cores()
    rungs = []
    for step in steps_of(options, has_images=bool(images), cores=cores):
        if options.cold:
            drop(files or ())
        in_memory = None if files is None else cached_share(files)
        crop = [RandomResizedCrop(options.image_size), RandomHorizontalFlip()]
        with Loader(view, batch_size=batch_size, threads=step.threads, rank=0, world_size=1,
                    transforms=dict.fromkeys(images, crop) if step.name == SAMPLES else {}) as loader:
            rates = measure(loader, step.seconds, 0 if options.cold else step.seconds * WARM_UP_SHARE)
            rungs.append(Rung(step, rates, in_memory, loader.stats()))
    last = rungs[-1]
    found = diagnose(facts_of(view, rungs, cores, options.image_size if images else None))
    return {
        "url": view.url,
        "snapshot": view.snapshot,
        "batch_size": batch_size,
        "image_size": options.image_size if images else None,
        "usable_cores": cores,
        "io": last.stats["io"],
        "batch_bytes": last.stats["bytes"]["batch"],
        "data_bytes": sum(shard.bytes for shard in view.shards()),
        "in_memory": last.in_memory,
        "cold": options.cold,
        **last.rates.as_dict(),
        "step_ms": round(1000 * batch_size / last.rates.samples_per_s, 3),
        "stages": last.rates.stages(),
        "ladder": [rung.as_dict() for rung in rungs],
        "bound_by": found.bound,
        "changes": list(found.changes),
    }


def steps_of(options: LadderOptions, *, has_images: bool, cores: int) -> list[Step]:
    """The rungs, from the lowest on. Pure."""
    counts: tuple[int | None, ...] = options.threads or ((None,) if cores == 1 else (1, None))
    planned = [(STORED_BYTES, counts[-1])] * has_images + [(SAMPLES, count) for count in counts]
    lower = len(planned) - 1
    last_share = LAST_RUNG_SHARE if lower else 1.0
    shares = [(1 - last_share) / max(1, lower)] * lower + [last_share]
    return [Step(name, threads, options.seconds * share)
            for (name, threads), share in zip(planned, shares, strict=True)]


def facts_of(view: Dataset, rungs: Sequence[Rung], cores: int, image_size: int | None) -> Facts:
    """What the rungs say of the last one. image_size: None where there are no images."""
    rates, stats = rungs[-1].rates, rungs[-1].stats
    alone = [rung.rates for rung in rungs if rung.step.name == SAMPLES and rung.rates.threads == 1]
    return Facts(
        stages_s=busy_stages(rates.stages_s),
        wall_s=rates.seconds,
        cores_busy=rates.cores_busy,
        cores=cores,
        threads=rates.threads,
        speedup=rates.samples_per_s / alone[0].samples_per_s if alone and rates.threads > 1 else None,
        url=view.url,
        is_remote=local_files(view) is None,
        tiers={tier: count for tier, count in stats["bytes"].items() if tier in ("local", "slab", "ring")},
        in_memory=rungs[-1].in_memory,
        image_size=image_size,
        image_side=None if image_size is None else mean_shorter_side(view),
    )


def mean_shorter_side(view: Dataset) -> float | None:
    """In pixels, over some pictures of the first column that has any; None where none is there."""
    column = next(name for name, column in view.schema.items() if isinstance(column, Image))
    rows = range(0, len(view), max(1, len(view) // IMAGES_LOOKED_AT))
    pictures: Sequence[bytes | None] = view.take(list(rows), columns=[column])[column].tolist()
    sides = [min(found["width"], found["height"]) for found in map(describe, filter(None, pictures))]
    return sum(sides) / len(sides) if sides else None
