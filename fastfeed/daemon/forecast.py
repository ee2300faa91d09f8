"""What a job can expect of the pool, in a line: "71 % hits, 3.1 GB/s from the origin, will stall".

Pure: from a simulation's result and the speeds of the jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from fastfeed.cache.future import CHUNK_BYTES, Course
from fastfeed.cache.policy import Choice, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Of all jobs of the pool together, from the second epoch on. None: not known yet.

    hit_ratio: of the bytes that jobs read, those that no origin gives. job_bytes_per_s: what this job reads.
    origin_bytes_per_s: what all jobs together then ask of origins. will_stall: whether that is above their limit.
    """

    policy: str
    hit_ratio: float | None
    fits: bool
    job_bytes_per_s: float | None
    origin_bytes_per_s: float | None
    origin_limit_bytes_per_s: int | None
    will_stall: bool | None

    @property
    def text(self) -> str:
        """For people."""
        parts = []
        if self.fits:
            parts.append("all of it fits: 100 % hits after one epoch")
        elif self.hit_ratio is not None:
            parts.append(f"{100 * self.hit_ratio:.0f} % hits after one epoch")
        else:
            parts.append("hits are being computed")
        if self.origin_bytes_per_s is not None:
            parts.append(f"{_rate(self.origin_bytes_per_s)} from the origin")
        if self.will_stall:
            parts.append(f"will stall: the origin's limit is {_rate(float(self.origin_limit_bytes_per_s or 0))}")
        elif self.will_stall is False:
            parts.append("will not stall")
        return ", ".join(parts)

    def to_json(self) -> dict[str, object]:
        """Its fields, and the line."""
        return {**asdict(self), "text": self.text}


def forecast_of(
    courses: Sequence[Course],
    course: Course,
    choice: Choice | None,
    plan: Plan,
    capacity_chunks: int,
    origin_limit_bytes_per_s: int | None,
) -> Forecast:
    """The forecast for the job of `course`, one of `courses`, on a pool of so many chunks."""
    geometries = {id(each.geometry): each.geometry for each in courses}.values()
    fits = sum(geometry.chunk_count for geometry in geometries) <= capacity_chunks
    hit_ratio = 1.0 if fits else None if choice is None else plan.hit_ratio
    reads = [None if each.rate is None else each.rate * each.bytes_per_position * each.share for each in courses]
    origin: float | None = None
    if hit_ratio is not None and all(each is not None for each in reads):
        origin = sum(each for each in reads if each is not None) * (1 - hit_ratio)
    will_stall = None if origin is None or origin_limit_bytes_per_s is None else origin > origin_limit_bytes_per_s
    own = None if course.rate is None else course.rate * course.bytes_per_position * course.share
    return Forecast(policy=plan.policy.name.lower(), hit_ratio=hit_ratio, fits=fits, job_bytes_per_s=own,
                    origin_bytes_per_s=origin, origin_limit_bytes_per_s=origin_limit_bytes_per_s,
                    will_stall=will_stall)  # fmt: skip


def _rate(bytes_per_s: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if bytes_per_s >= size:
            return f"{bytes_per_s / size:.1f} {unit}/s"
    return f"{bytes_per_s / 1e3:.1f} kB/s"


__all__ = ["CHUNK_BYTES", "Forecast", "forecast_of"]
