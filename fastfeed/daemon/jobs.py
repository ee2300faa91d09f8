"""The jobs of a pool: what loaders registered, where they are, and what to fetch for them next.

A loader registers a recipe (wire/recipe.py) and tells its place in its page; ranks of one job on this node are one
course, at the place of the one that is least far. From the courses follow the pool's future (cache/future.py), the plan
(cache/policy.py) and the prefetch: earliest deadline first over all jobs, so many bytes ahead of each. A job that has
not moved for IDLE_S has no future until it moves: nothing is fetched or kept for it.

One pool, one thread (the event loop's). `tick` is cheap and called about every second; `think` is the simulation, which
takes up to a second without the GIL and may run in another thread: what it reads are copies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from fastfeed.cache.future import CHUNK_BYTES, Course, Future, Geometry
from fastfeed.cache.policy import NO_PLAN, Choice, Chooser, Plan, choose
from fastfeed.cache.policy_evictor import FutureEvictor
from fastfeed.daemon.forecast import Forecast, forecast_of
from fastfeed.daemon.prefetch import Ahead, runs_of
from fastfeed.daemon.row_places import GeometryOf, OpaqueError, SnapshotRows, is_home_deal, row_geometry, shape_for
from fastfeed.wire.page import PageView
from fastfeed.wire.recipe import Recipe

# Without a step for so long, a job has no future: its bytes are given to others.
IDLE_S = 60.0
# A rate is a mean over about so long: steps of a second, and pauses for checkpoints, do not shake it.
RATE_OVER_S = 20.0
# Simulations are repeated when jobs come and go, or when rates have changed by so much; and not more often than that.
THINK_EVERY_S = 10.0
RATE_CHANGE = 1.25
# What is fetched ahead of time takes slots from what is kept: of a full pool so much at most. Two jobs over a quarter
# of 512 MiB hit 0.40 with 1/16 of the pool ahead, 0.36 with 1/4, and 0.08 with all that limits.prefetch allows.
AHEAD_POOL_SHARE = 16
# And no more than a job reads in so long, beyond what its loader reads ahead itself: five looks at its place, and more
# than an origin takes to answer. But at least one request of the size that origins are fastest with.
AHEAD_S = 0.25
AHEAD_BYTES_MIN = 8 << 20
# What a loader's prefetch is at least and at most (loader/loader.py).
AHEAD_BATCHES_MIN, AHEAD_BATCHES_MAX = 2, 64
# Blocks that one call of next_fetches looks at: 1 GiB, in about 10 ms of the event loop. The fetcher asks again within
# 50 ms, and blocks that are here cost a job nothing but that look.
BLOCKS_LOOKED_AT_MAX = 256
# Geometries of views that nobody reads any more are kept for who comes back.
GEOMETRIES_KEPT_MAX = 8


class Keyed(Protocol):
    """What the pool calls an object of a set."""

    @property
    def key(self) -> bytes: ...
    @property
    def size_bytes(self) -> int: ...


O = TypeVar("O", bound=Keyed)  # noqa: E741


@dataclass(frozen=True, slots=True)
class PlannedRun(Generic[O]):
    """Chunks of one object that will be needed; seconds until the first of them is."""

    object: O
    first_chunk: int
    count: int
    deadline_s: float


@dataclass(slots=True, eq=False)
class Registration(Generic[O]):
    """One loader of one rank. `page` gives what its client's page says now; course: None where it is opaque."""

    number: int
    session: int
    recipe: Recipe
    objects: Sequence[O]
    page: Callable[[], PageView]
    job: _Job[O] | None
    why_opaque: str
    epoch: int
    position: int
    moved_at_s: float
    steps: int = 0
    exposed_wait_s: float = 0.0
    forecast: Forecast | None = None
    # Of the process's counters when this loader came: its own waits begin there.
    _steps_before: int = 0
    _wait_before_us: int = 0


@dataclass(slots=True, eq=False)
class _Job(Generic[O]):
    """The ranks of one job on this node, and their course."""

    identity: tuple[Any, ...]
    objects: Sequence[O]
    course: Course
    ranks: dict[int, Registration[O]] = field(default_factory=dict)
    ahead: Ahead | None = None
    is_live: bool = True
    rate_at_s: float = 0.0
    rate_progress: int = 0
    thought_rate: float = 0.0
    # Whether all that its blocks lie in was in slots when the evictor had seen so many changes; chunks: of its set, by
    # number, those that it reads, once they may be.
    is_here: bool = False
    chunks: npt.NDArray[np.bool_] | None = None
    looked_at_changes: int = -1


class Jobs(Generic[O]):
    """Implements the fetcher's `Planner` and feeds the evictor."""

    def __init__(
        self,
        evictor: FutureEvictor,
        *,
        ahead_bytes_max: int,
        origin_bytes_per_s: int | None = None,
        geometry_of: GeometryOf = row_geometry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """ahead_bytes_max: of all jobs together, fetched and not needed yet. origin_bytes_per_s: the origins' limit.
        geometry_of: how the blocks of a recipe are found."""
        self.evictor = evictor
        self.ahead_bytes_max = ahead_bytes_max
        self.origin_bytes_per_s = origin_bytes_per_s
        self.registrations: dict[int, Registration[O]] = {}
        self.last_choice: Choice | None = None
        self._geometry_of, self._clock = geometry_of, clock
        self._jobs: list[_Job[O]] = []
        self._geometries: dict[tuple[Any, ...], Geometry] = {}
        self._chooser = Chooser()
        self._next_number = 1
        self._think_wanted = False
        self._thought_at_s = -1e9

    # --- registering ---------------------------------------------------------------------------------------------

    def register(
        self,
        session: int,
        recipe: Recipe,
        opened: SnapshotRows | None,
        objects: Sequence[O],
        page: Callable[[], PageView],
    ) -> Registration[O]:
        """A loader will read `objects` as `recipe` says. opened: the snapshot that the objects are the shards of; None:
        they are no dataset. Never fails: what cannot be computed is opaque, and says why."""
        job: _Job[O] | None = None
        why = ""
        try:
            if opened is None:
                raise OpaqueError("the set is no dataset of fastfeed")
            job = self._job_of(recipe, opened, objects)
        except OpaqueError as error:
            why = str(error)
        now_s = self._clock()
        view = page()
        made = Registration(self._next_number, session, recipe, objects, page, job, why, recipe.epoch, recipe.position,
                            now_s, _steps_before=view.steps, _wait_before_us=view.exposed_wait_us)  # fmt: skip
        self._next_number += 1
        self.registrations[made.number] = made
        if job is not None:
            job.ranks[made.number] = made
            self._place(job)
            self._renew()
            made.forecast = self._forecast(job)
        return made

    def unregister(self, number: int) -> None:
        """That loader has ended. Another number than one of a registration is no error: it has ended before."""
        gone = self.registrations.pop(number, None)
        if gone is None or gone.job is None:
            return
        gone.job.ranks.pop(number, None)
        if not gone.job.ranks:
            self._jobs.remove(gone.job)
        else:
            self._place(gone.job)
        self._renew()

    # --- time ----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Look at all pages: places, rates, who stands still."""
        now_s = self._clock()
        for registration in self.registrations.values():
            self._look(registration, now_s)
        changed = False
        for job in self._jobs:
            self._place(job)
            self._measure(job, now_s)
            live = any(now_s - rank.moved_at_s < IDLE_S for rank in job.ranks.values())
            changed |= live != job.is_live
            job.is_live = live
            self._take_stock(job)
        if changed:
            self._renew()

    def look(self) -> None:
        """Look where the jobs are, and nothing else: so often that no block begins unseen."""
        now_s = self._clock()
        for registration in self.registrations.values():
            self._look(registration, now_s)
        for job in self._jobs:
            self._place(job)

    @property
    def needs_looks(self) -> bool:
        """Whether there is a job for which something may have to be fetched before the next tick."""
        return any(job.is_live and not self._has_all(job) for job in self._jobs)

    def thinking(self) -> Callable[[], Choice] | None:
        """The simulation that is due, to be run anywhere; give its result to `decide`. None: nothing is due."""
        now_s = self._clock()
        live = [job for job in self._jobs if job.is_live]
        if any(_differ(job.course.rate or 0.0, job.thought_rate) for job in live):
            self._think_wanted = True
        if not self._think_wanted or now_s < self._thought_at_s + THINK_EVERY_S:
            return None
        self._think_wanted, self._thought_at_s = False, now_s
        if not live:
            self._chooser.forget()
            self.last_choice = None
            self.evictor.set_plan(NO_PLAN)
            return None
        for job in live:
            job.thought_rate = job.course.rate or 0.0
            job.course.settle()
        courses = [copy(job.course) for job in live]
        capacity = self.evictor.capacity
        # A future of its own: numbers of objects that only it knows.
        return lambda: choose(Future(), courses, capacity)

    def decide(self, choice: Choice) -> Plan:
        """Take over what `thinking` found. A wish to switch is looked at once more before it is followed."""
        before = self._chooser.plan.policy
        plan = self._chooser.take(choice)
        self.last_choice = choice
        self.evictor.set_plan(plan)
        if plan.policy is before and max(c.hit_ratio for c in choice.costs.values()) > plan.hit_ratio:
            self._think_wanted = True
        for registration in self.registrations.values():
            if registration.job is not None:
                registration.forecast = self._forecast(registration.job)
        return plan

    # --- what the fetcher asks -----------------------------------------------------------------------------------

    def next_fetches(
        self, budget_bytes: int, is_open: Callable[[O], bool] = lambda _: True
    ) -> Iterator[PlannedRun[O]]:
        """What to fetch ahead now, the most urgent first; each chunk once. Runs are of up to 8 chunks of one object;
        together they are not more than the budget, but for the first. There may be more than one call gives. is_open:
        whether a job takes part, by its first object."""
        left = budget_bytes
        for _ in range(BLOCKS_LOOKED_AT_MAX):
            if left <= 0:
                return
            best: tuple[float, _Job[O]] | None = None
            for job in self._jobs:
                deadline_s = self._deadline(job) if job.objects and is_open(job.objects[0]) else None
                if deadline_s is not None and (best is None or deadline_s < best[0]):
                    best = deadline_s, job
            if best is None:
                return
            deadline_s, job = best
            for run in self._runs(job, deadline_s):
                left -= run.count * CHUNK_BYTES
                yield run

    def is_exact(self, key: bytes, chunk: int) -> bool:
        """Whether reads of this chunk get their exact bytes, because it is not worth a slot."""
        return not self.evictor.expect(key, chunk)

    # --- answers -------------------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        return self._chooser.plan

    @property
    def prefetched_bytes(self) -> int:
        """Fetched ahead of what the jobs have reached, about."""
        total = 0.0
        for job in self._jobs:
            head = job.ahead.head() if job.is_live and job.ahead is not None else None
            if head is not None:
                total += max(0, head.distance) * job.course.bytes_per_position
        return int(total)

    @property
    def courses(self) -> list[Course]:
        """Of the jobs that have a future now."""
        return [job.course for job in self._jobs if job.is_live]

    def forecast(self, number: int) -> Forecast | None:
        """What is expected for a registered loader; None: nothing is known of its future."""
        registration = self.registrations[number]
        return registration.forecast

    # --- inside --------------------------------------------------------------------------------------------------

    def _job_of(self, recipe: Recipe, opened: SnapshotRows, objects: Sequence[O]) -> _Job[O]:
        order = shape_for(recipe, opened)
        keys = [each.key for each in objects]
        view = repr([*recipe.view])
        # Ranks of one job differ in nothing else than rank and place.
        identity = (recipe.job, recipe.world_size, recipe.url, recipe.snapshot, recipe.content, view, order,
                    tuple(keys))  # fmt: skip
        for job in self._jobs:
            if job.identity == identity and recipe.rank not in {each.recipe.rank for each in job.ranks.values()}:
                return job
        home = (recipe.nodes, recipe.nodes[recipe.rank]) if is_home_deal(recipe) else None
        place = (recipe.content, view, order.block_rows, tuple(keys), home)
        geometry = self._geometries.pop(place, None)
        if geometry is None:
            geometry = self._geometry_of(opened, keys, recipe, order)
        self._geometries[place] = geometry
        while len(self._geometries) > GEOMETRIES_KEPT_MAX + len(self._jobs):
            del self._geometries[next(iter(self._geometries))]
        name = recipe.job or f"rank {recipe.rank}"
        course = Course(name, geometry, order, recipe.epoch, recipe.position)
        job = _Job(identity, objects, course, rate_at_s=self._clock())
        job.rate_progress = recipe.epoch * order.n + recipe.position
        self._jobs.append(job)
        return job

    def _look(self, registration: Registration[O], now_s: float) -> None:
        """Take over what the page says, if it is about this loader and possible."""
        view = registration.page()
        if not view.is_page or view.registration != registration.number:
            return
        if not (0 <= view.position <= registration.recipe.rows and 0 <= view.epoch < 1 << 32):
            return
        registration.steps = max(0, view.steps - registration._steps_before)
        registration.exposed_wait_s = max(0, view.exposed_wait_us - registration._wait_before_us) / 1e6
        if (view.epoch, view.position) != (registration.epoch, registration.position):
            registration.epoch, registration.position = view.epoch, view.position
            registration.moved_at_s = now_s

    def _place(self, job: _Job[O]) -> None:
        """The job is where the least far of its ranks is that moves; if none does, the least far of all."""
        now_s = self._clock()
        moving = [rank for rank in job.ranks.values() if now_s - rank.moved_at_s < IDLE_S] or list(job.ranks.values())
        epoch, position = min((rank.epoch, rank.position) for rank in moving)
        course = job.course
        recipe = moving[0].recipe
        batch_bytes = max(1.0, course.bytes_per_position * recipe.global_batch / recipe.world_size)
        batches = min(max(recipe.ahead_bytes / batch_bytes, AHEAD_BATCHES_MIN), AHEAD_BATCHES_MAX)
        course.lead = min(int(batches * recipe.global_batch), course.order.n) if recipe.ahead_bytes else 0
        course.share = 1.0 if is_home_deal(recipe) else min(1.0, len(job.ranks) / recipe.world_size)
        before = course.epoch, course.position
        course.move(epoch, position)
        gone_on = before <= (epoch, position) and epoch - before[0] <= 1
        if not self._has_all(job) and (job.ahead is None or not gone_on):
            job.ahead = Ahead(course)

    def _take_stock(self, job: _Job[O]) -> None:
        """See whether all that the job reads is here: then nothing is looked for until a chunk goes."""
        if job.looked_at_changes != self.evictor.changes:
            job.looked_at_changes = self.evictor.changes
            job.is_here = self._is_all_here(job)
        if self._has_all(job):
            job.ahead = None

    def _is_all_here(self, job: _Job[O]) -> bool:
        # 70 ms for a set of 1 TiB, which is here in no pool that is smaller.
        if self.evictor.occupied < job.course.bytes_per_position * job.course.order.n // CHUNK_BYTES:
            return False
        if job.chunks is None:
            job.chunks = job.course.geometry.read_chunks()
        return self.evictor.holds_all(job.course, job.chunks)

    def _has_all(self, job: _Job[O]) -> bool:
        return job.is_here and job.looked_at_changes == self.evictor.changes

    def _measure(self, job: _Job[O], now_s: float) -> None:
        course = job.course
        progress = course.epoch * course.order.n + course.position
        took_s = now_s - job.rate_at_s
        if took_s <= 0:
            return
        made = progress - job.rate_progress
        job.rate_at_s, job.rate_progress = now_s, progress
        # A jump back, or over more than an epoch, is no speed.
        if made < 0 or made > course.order.n:
            return
        if course.rate is None:
            if made > 0:
                course.rate = made / took_s
            return
        weight = 1 - float(np.exp(-took_s / RATE_OVER_S))
        course.rate = max(course.rate + weight * (made / took_s - course.rate), 1e-9)

    def _renew(self) -> None:
        """Jobs came, went, stopped or went on."""
        self.evictor.set_courses(self.courses)
        self._think_wanted = True

    def _forecast(self, job: _Job[O]) -> Forecast:
        return forecast_of(self.courses, job.course, self.last_choice, self.plan, self.evictor.capacity,
                           self.origin_bytes_per_s)  # fmt: skip

    def _deadline(self, job: _Job[O]) -> float | None:
        """Seconds until this job needs its next block; None: it needs none for now."""
        if not job.is_live or job.ahead is None:
            return None
        has_room = self.evictor.has_room
        job.ahead.cuts = not has_room
        head = job.ahead.head()
        if head is None:
            return None
        most = self.ahead_bytes_max
        if not has_room:
            most = min(most, self.evictor.capacity * CHUNK_BYTES // AHEAD_POOL_SHARE)
        share = most / max(1, len(self._jobs))
        if not has_room and job.course.rate is not None:
            share = min(share, max(AHEAD_S * job.course.rate * job.course.bytes_per_position, AHEAD_BYTES_MIN))
        if head.distance * job.course.bytes_per_position > share:
            return None
        return head.distance * job.course.seconds_a_position

    def _runs(self, job: _Job[O], deadline_s: float) -> Iterator[PlannedRun[O]]:
        """The chunks that the job needs next, that are not here and may come."""
        assert job.ahead is not None
        head = job.ahead.head()
        assert head is not None
        job.ahead.advance()
        wanted = ((which, chunk) for which, first, count in head.chunks for chunk in range(first, first + count))
        for run in runs_of(each for each in wanted if self._is_missing(job.objects[each[0]].key, each[1])):
            yield PlannedRun(job.objects[run.which], run.first_chunk, run.chunks, deadline_s)

    def _is_missing(self, key: bytes, chunk: int) -> bool:
        return not self.evictor.holds(key, chunk) and self.evictor.expect(key, chunk)


def _differ(rate: float, other: float) -> bool:
    low, high = sorted((rate, other))
    return high > low * RATE_CHANGE


def report_of(forecast: Forecast | None) -> Mapping[str, object]:
    """For JSON."""
    return {} if forecast is None else forecast.to_json()


__all__ = ["CHUNK_BYTES", "Jobs", "Keyed", "PlannedRun", "Registration", "report_of"]
