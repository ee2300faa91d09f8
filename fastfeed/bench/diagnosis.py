"""What bounds the rate at which a machine feeds a dataset, and what would raise it. Pure: facts in, sentences out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# From this share of the cores on, more threads cannot help.
CORES_BUSY_SHARE = 0.85
# Seconds of the threads over seconds of CPU: from here on they were held up by others.
STARVED_RATIO = 1.5
# Below this share of the data in memory, reads go to the disk.
IN_MEMORY_SHARE = 0.9
# A picture this many times as high and wide as what is trained on is mostly decoded in vain: crops of half its side and
# more, which most are, are then still shrunk.
LARGE_IMAGE_RATIO = 3
# What to store instead, as a multiple of what is trained on: the usual 256 for crops of 224, twice over.
STORED_IMAGE_RATIO = 2
# From this part of the bytes on, the daemon fetched them now: the cache was not warm.
COLD_SHARE = 0.05


WAIT = "wait"  # the stage in which reads wait for storage


def busy_stages(stages_s: Mapping[str, float]) -> dict[str, float]:
    """Thread seconds by stage, as `Loader.stats` counts them, taken apart: reading without the waits for storage, these
    as a stage of their own, and no idleness. Names without their unit."""
    wait_s = stages_s.get("read_wait_s", 0.0)
    apart = {name.removesuffix("_s"): seconds for name, seconds in stages_s.items()
             if name not in ("idle_s", "read_wait_s")}
    if wait_s > 0:
        apart["read"] = max(0.0, apart.get("read", 0.0) - wait_s)
        apart[WAIT] = wait_s
    return apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was measured, and on what."""

    stages_s: Mapping[str, float]  # as `busy_stages` gives them
    wall_s: float
    cores_busy: float
    cores: int
    threads: int
    speedup: float | None = None  # to one thread, where that was measured
    url: str = "URL"
    is_remote: bool = False
    tiers: Mapping[str, int] = field(default_factory=dict)  # bytes
    in_memory: float | None = None  # share of the shards in the page cache when it began
    image_size: int | None = None  # side of the crops
    image_side: float | None = None  # mean of the shorter sides as stored


@dataclass(frozen=True, slots=True)
class Diagnosis:
    bound: str
    changes: tuple[str, ...]


def diagnose(facts: Facts) -> Diagnosis:
    """What bounds the rate, and what would change it, the most useful first."""
    stage = max(facts.stages_s, key=lambda name: facts.stages_s[name])
    share = facts.stages_s[stage] / max(1e-9, sum(facts.stages_s.values()))
    busy = f"{facts.cores_busy:.1f} of {facts.cores} cores are busy"
    if facts.cores_busy >= CORES_BUSY_SHARE * facts.cores:
        return Diagnosis(f"the cores: {busy}, {share:.0%} of the threads' time is spent in {stage}",
                         _when_cores_bound(facts, stage))
    if stage in ("read", WAIT):
        return Diagnosis(f"storage: {share:.0%} of the threads' time is spent in reads, {busy}",
                         _when_storage_bounds(facts))
    # Stages other than reading never wait by themselves: time that is not CPU time was spent waiting for a core.
    working_s = sum(seconds for name, seconds in facts.stages_s.items() if name not in ("read", WAIT))
    if working_s > STARVED_RATIO * facts.cores_busy * facts.wall_s:
        return Diagnosis(f"other processes: the threads had {facts.cores_busy:.1f} of {facts.cores} cores and waited "
                         "for more", ("a quiet machine",))
    if facts.threads < facts.cores:
        return Diagnosis(f"threads: {facts.threads} of them on {facts.cores} cores, {share:.0%} of their time is spent "
                         f"in {stage}", (f"--threads {facts.cores}",))
    return Diagnosis(f"handing over: {busy}, the threads wait for the consumer", ("a larger --batch-size",))


def _when_cores_bound(facts: Facts, stage: str) -> tuple[str, ...]:
    changes = []
    if stage == "decode" and facts.image_side is not None and facts.image_size is not None:
        stored = STORED_IMAGE_RATIO * facts.image_size
        if facts.image_side >= LARGE_IMAGE_RATIO * facts.image_size:
            changes.append(f"fastfeed convert --image-size {stored}: the pictures are {facts.image_side:,.0f} pixels "
                           "wide or high at least, and decoding takes time by the pixel")
    if facts.speedup is not None:
        changes.append(f"more cores: {facts.threads} threads gave {facts.speedup:.2f} x what one did")
    else:
        changes.append("more cores")
    if stage not in ("decode", "python"):
        changes.append("nothing in the loader: this stage is as fast as the machine's memory and cores allow")
    return tuple(changes)


def _when_storage_bounds(facts: Facts) -> tuple[str, ...]:
    handed_over, all_bytes = facts.tiers.get("ring", 0), sum(facts.tiers.values())
    if facts.is_remote and handed_over > COLD_SHARE * all_bytes:
        return (f"fastfeed cache warm {facts.url}: {handed_over / all_bytes:.0%} of the bytes were fetched while we "
                "measured", "a faster line to the origin")
    changes = ["a faster disk"]
    if facts.in_memory is not None and facts.in_memory < IN_MEMORY_SHARE:
        changes.append(f"more memory: {facts.in_memory:.0%} of the data was in it")
    changes.append("more --threads, which have more reads at once")
    return tuple(changes)
