"""The loader: batches of one rank, epoch after epoch, from any position on.

The sampler says which row comes at which position, the steps which positions are taken together, the deal which of
them are this rank's; the native reader turns rows into batches, and the stage behind it runs Python callables. The
loader keeps the place: which epoch, which position, how many batches are on their way. A position counts when its batch
is handed out.

Not thread-safe: one thread iterates. Native threads start at the first iteration; a forked child starts its own.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn, Unpack

import numpy as np

from fastfeed._native.feed import Reader
from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import ConfigError, FastfeedError, LoaderTimeoutError
from fastfeed.format.machine import machine_cores, usable_cores
from fastfeed.format.schema import StreamSchema
from fastfeed.loader.agreement import Gather, find_gather
from fastfeed.loader.announce import Announcer, Run
from fastfeed.loader.assemble import Recipe, assemble
from fastfeed.loader.cache_limit import require_cache_limit
from fastfeed.loader.callables import Callables, make_callables
from fastfeed.loader.columns import ColumnPlan
from fastfeed.loader.course import Course
from fastfeed.loader.dealing import Dealer, Dealt
from fastfeed.loader.depth import DEPTH_MIN, Depth
from fastfeed.loader.home_deal import HomeDeal
from fastfeed.loader.mixture import Mixture, as_source, datasets_of, native_snapshots
from fastfeed.loader.mixture_columns import plan_sources
from fastfeed.loader.mixture_order import MixtureOrder
from fastfeed.loader.options import EPOCH_LIMIT, Last, LoaderArguments, LoaderOptions, OnError, read_options
from fastfeed.loader.reading import BatchReader, NativeReader, ReaderFactory
from fastfeed.loader.sampler import OrderEpoch
from fastfeed.loader.stage import Stage, make_stage
from fastfeed.loader.state import first_state
from fastfeed.loader.substitute import Substitutes
from fastfeed.loader.tiers import Tiers
from fastfeed.loader.waits import Waits
from fastfeed.loader.wishes import Wishes
from fastfeed.loader.world import World, default_threads, find_world
from fastfeed.order import Order

if TYPE_CHECKING:
    from fastfeed._native.feed import Pinner, Pulse

log = logging.getLogger("fastfeed")

# Threads that read ahead, at most, and only where reads wait for storage. 16: a file system with 5 ms an access then
# gives 3,000 groups of reads a second, and what they hold, at most 2 MiB each, is less than one batch of photographs.
READER_THREADS_MAX = 16
# predownload= needs the mean size of a sample: so many shards tell it.
SHARDS_MEASURED = 100
# Batches are submitted when an eighth of the depth is free: a wake-up then serves eight of them where the prefetch is
# deepest, and seven eighths are on their way at any time.
SUBMIT_TOGETHER_OF_DEPTH = 8
_NO_RANGE = nullcontext()
# Of the native reader's counters.
_STAGE_SECONDS = ("locate_s", "read_s", "read_wait_s", "verify_s", "decode_s", "place_s", "idle_s")
# From how many batches on that the user holds a note is worth it, and how many bytes, where that is more than a few.
HELD_BATCHES_NOTED = 64
HELD_BYTES_NOTED = 1 << 30
HELD_BATCHES_USUAL = 4


class Loader:
    """Yields `Batch`es of a dataset, for one rank.

    dataset: a Dataset, the place of one, or a Mixture. Keywords: docs/loader.md, and `LoaderArguments`. A keyword that
    cannot be honoured is a ConfigError. Iterate over it once an epoch; `close` it, or leave a `with` block, to stop its
    threads.
    """

    def __init__(
        self,
        dataset: Dataset | Mixture | str | os.PathLike[str] | None = None,
        *,
        remote: str | None = None,
        reader_factory: ReaderFactory | None = None,
        **arguments: Unpack[LoaderArguments],
    ) -> None:
        self._options = options = read_options(arguments)
        self.dataset = as_source(dataset, remote)
        datasets = datasets_of(self.dataset)
        require_cache_limit(datasets, options.cache_limit_bytes)
        plans = plan_sources(datasets, options.columns, options.transforms)
        self._columns = plans[0]
        finish, finish_takes_time = self._finisher(
            any((self._columns.callables, options.map_sample, options.map_batch, options.collate_fn)))
        self._callables = make_callables(self._columns.callables, options.map_sample, options.map_batch, finish,
                                         options.collate_fn, finish_takes_time=finish_takes_time)
        world = find_world(options.rank, options.world_size, os.environ, sys.modules)
        self.rank, self.world_size = world.rank, world.size
        log.info("loader: rank %d of %d (from %s)", world.rank, world.size, world.origin)
        self._recipe = recipe = assemble(self.dataset, options, world)
        self._wishes = Wishes(recipe)
        self._dealer = Dealer(options, world, recipe.sampler, recipe.deal, self._gatherer(options, world))
        self._dealt: Dealt | None = None
        batch = None if options.global_max_tokens is not None else options.global_batch(world.size)
        self._tiers = Tiers(datasets)
        self._announcer = Announcer(datasets, Run(batch, world.rank, world.size, options.last.value,
                                              options.prefetch_bytes))
        self._plan = self._recipe.plan(options.seed, options.epoch)
        if options.last is Last.DROP and self._plan.sampler.length > 0 and self._plan.steps.is_over(0):
            log.warning("the epoch has %d samples, fewer than one step of all ranks takes (%s): last='drop' gives no "
                        "batch. Use last='short' or smaller batches.", self._plan.sampler.length,
                        options.step_size(world.size))
        self._state = first_state(recipe.sampler, options.seed, options.epoch)  # but for its position, which is:
        self._position = 0
        # A loaded position waits for the next iter(); a complete epoch lets the next iter() begin the one after it.
        self._position_is_loaded = self._epoch_is_complete = False
        # False where it is not known what of the course is on its way: while a step is made, so also where an interrupt
        # left one half made, and where another deal makes what was read ahead useless.
        self._course_is_good = True
        # Which iteration is the current one: a number, since a reference would be a cycle that keeps a dropped loader.
        self._iteration_number = 0
        self._iteration_is_fresh = False  # whether it was not asked for a batch yet
        self._prefetch_bytes = options.prefetch_bytes
        self._submit_below = 0  # batches on their way below which more are submitted
        if options.prefetch_samples is not None:
            self._prefetch_bytes = int(options.prefetch_samples * mean_sample_bytes(self.dataset))
        self._waits = Waits()
        least = DEPTH_MIN + (options.python_workers if self._callables.take_time() else 0)
        self._depth = Depth(self._prefetch_bytes, _threads(options), least)
        self._handed_out_s: float | None = None  # when the consumer of this iteration was last let go
        self._step_count = self._bad_count = 0
        self._reader_factory = reader_factory or _native_factory(datasets, plans, options, self._pinner(),
                                                                 self._marks())
        self._course = Course(self._plan, 0, self._recipe.plan)
        self._engine: _Engine | None = None
        self._stop_engine: Callable[[], object] = lambda: None
        self._is_closed = self._has_noted_held = self._is_traced = False

    # --- iteration -------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Steps of a whole epoch: the same on every rank. With `global_max_tokens` this looks at every length of the
        epoch, and another epoch may have a few more or less."""
        return self._plan.steps.count(0)

    def __iter__(self) -> Iterator[Any]:
        """Begin the epoch: at its start, or where a state that was just loaded says. Ends an earlier iteration."""
        if self._is_closed:
            raise ConfigError("the loader is closed; make a new one.")
        self._end_iteration()
        if self._epoch_is_complete:
            self._move(self._state.epoch + 1, 0)
        elif not self._position_is_loaded:
            self._move(self._state.epoch, 0)
        # Until the ranks have agreed: if they do not, the next iter() begins here, too.
        self._position_is_loaded, self._epoch_is_complete = True, False
        self._begin()
        self._position_is_loaded = False
        self._iteration_is_fresh = True
        return _Iteration(self, self._iteration_number)

    def _begin(self) -> None:
        """Begin to read where the state is."""
        engine = self._running_engine()
        if self._dealt is None:
            self._agree_on_deal()
        goes_on = self._course_is_good and self._course.goes_on_at(self._plan, self._position)
        self._course_is_good = False
        if not goes_on:
            engine.stage.cancel()
            self._course = Course(self._plan, self._position, self._recipe.plan)
        self._announce()
        self._submit_ahead(engine)
        self._course_is_good = True

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be epoch `epoch`. The current one: keeps a loaded position. Another: starts it anew,
        and ends a running iteration; one that has not been asked for a batch yet goes to that epoch."""
        if isinstance(epoch, bool) or not isinstance(epoch, int | np.integer) or not 0 <= epoch < EPOCH_LIMIT:
            raise ConfigError(f"set_epoch({epoch!r}): a whole number from 0 on is needed.")
        if epoch != self._state.epoch:
            self._position_is_loaded = False
            self._move(int(epoch), 0)
            if self._iteration_is_fresh:
                self._begin()
            else:
                self._end_iteration()
        elif self._epoch_is_complete:
            self._move(int(epoch), 0)
        self._epoch_is_complete = False

    def set_nodes(self, nodes: Sequence[str]) -> None:
        """Let the next iteration deal to these nodes: the name of each rank's, in the order of ranks. All ranks do so,
        between two epochs or after load_state_dict(); a running iteration ends."""
        self._dealer.name_nodes(tuple(nodes))
        self._dealt = None
        self._end_iteration()

    @property
    def epoch(self) -> int:
        """The epoch of the current iteration, or of the next one."""
        return self._state.epoch

    @property
    def order(self) -> Order | MixtureOrder:
        """The order of the current epoch: `order.rows(0, n)` is what one rank of one is given."""
        sampler = self._plan.sampler
        if isinstance(sampler, MixtureOrder):
            return sampler
        if not isinstance(sampler, OrderEpoch):
            raise ConfigError("this loader's samples are not in the order of one dataset; batch.rows says which come.")
        return sampler.order

    def _end_iteration(self) -> None:
        """The current iteration, if there is one, gives nothing any more."""
        self._iteration_number += 1
        self._iteration_is_fresh = False
        self._handed_out_s = None

    def _next(self, iteration: _Iteration) -> Any:
        if self._is_closed:
            raise ConfigError("this iteration has ended: the loader was closed; make a new one.")
        if iteration.number != self._iteration_number:
            raise ConfigError("this iteration has ended: iter(), set_epoch() or load_state_dict() began another one.")
        if not self._course_is_good:
            raise ConfigError("this iteration has ended: it was interrupted. iter() begins the epoch anew, and goes on "
                              "after load_state_dict(loader.state_dict()).")
        self._iteration_is_fresh = False
        if self._course.epoch_is_done:
            self._position = self._plan.sampler.length
            self._epoch_is_complete = True
            raise StopIteration
        self._course_is_good = False  # an interrupt may come anywhere from here on
        engine = self._running_engine()
        began = time.perf_counter()
        work_s = 0.0 if self._handed_out_s is None else began - self._handed_out_s
        self._submit_ahead(engine)
        try:
            with self._range("fastfeed wait"):
                result, spent_s = engine.stage.next(self._options.timeout_s)
        except LoaderTimeoutError:  # the batch is still on its way
            self._handed_out_s = time.perf_counter()
            self._waits.give_up(self._handed_out_s - began, work_s)
            self._course_is_good = True
            raise
        except TimeoutError:  # of a signal's handler: the batch may be on its way or not
            raise
        except (FastfeedError, OSError):  # this batch is lost; the next call goes on behind it
            self._course.leave()
            self._bad_count += engine.batches.bad_of_oldest()
            self._course_is_good = True
            raise
        self._count_step(engine, time.perf_counter() - began, work_s, spent_s)
        self._submit_ahead(engine)
        self._course_is_good = True
        self._handed_out_s = time.perf_counter()
        return result

    def _count_step(self, engine: _Engine, wait_s: float, work_s: float, spent_s: tuple[float, ...]) -> None:
        """A batch is handed out."""
        stop = self._course.leave()
        self._bad_count += engine.batches.bad_of_oldest()
        self._position = stop.end
        self._epoch_is_complete = stop.is_last
        self._announcer.step(stop.end, wait_s)
        self._step_count += 1
        self._waits.add(wait_s, work_s, spent_s)
        if self._depth.step(wait_s, work_s):
            pulse = engine.reader.pulse()
            self._depth.decide(pulse.idle_s, pulse.batch_bytes)
            self._note_held(pulse)

    def _agree_on_deal(self) -> None:
        """Choose the deal together with the other ranks, at the place where all of them are now."""
        options = self._options
        run = {**self.state_dict(), **options.step_size(self.world_size), "last": options.last.value}
        run.pop("deal", None)  # of the agreement before
        self._dealt = self._dealer.agree(run, os.environ)
        deal = self._dealt.deal
        if deal.describe() != self._recipe.deal.describe():
            self._course_is_good = False  # what was read ahead was dealt otherwise
        self._recipe = self._recipe.with_deal(deal)
        self._wishes = Wishes(self._recipe)
        self._state = self._state.dealt(deal.describe())

    def _announce(self) -> None:
        """Tell the cache daemon where this loader begins to read."""
        self._tiers.begin()
        deal = self._recipe.deal
        nodes = deal.nodes if isinstance(deal, HomeDeal) else ()
        self._announcer.begin(self._plan, self._state.order, deal.describe() or {}, nodes, self._position)

    def _submit_ahead(self, engine: _Engine) -> None:
        """Keep as many batches on their way as the budget allows, the next epoch's first ones included.

        They are submitted some at a time: the first one of them wakes a sleeping thread, the others cost no wake-up."""
        if self._course.under_way > self._submit_below:
            return
        with self._range("fastfeed submit"):
            depth = self._prefetch_batches(engine)
            self._submit_below = depth - 1 - depth // SUBMIT_TOGETHER_OF_DEPTH
            while self._course.under_way < depth and (stop := self._course.take()) is not None:
                engine.stage.submit(self._wishes.take(stop))

    def _prefetch_batches(self, engine: _Engine) -> int:
        if self._options.prefetch_batches is not None:
            return self._options.prefetch_batches
        return self._depth.batches(engine.reader.pulse().batch_bytes)

    # --- the place in a run ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Where this run is: JSON-able, below 1 KB, the same on every rank. Counts batches handed out."""
        return self._state.at(self._state.epoch, self._position).to_dict()

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Go on where `state` was taken: the next iter() begins there. Any batch size and world will do.

        Raises ConfigError for the state of another dataset, order or version; strict=False takes seed, epoch and
        position all the same.
        """
        restored = self._state.restored(state, strict=strict)
        plan = self._recipe.plan(restored.seed, restored.epoch)
        restored = restored.within(plan.sampler.length, strict=strict)
        self._plan, self._state, self._position = plan, restored, restored.position
        self._position_is_loaded, self._epoch_is_complete = True, False
        self._end_iteration()
        self._dealt = None  # the ranks agree anew, also on the place that they loaded

    def _move(self, epoch: int, position: int) -> None:
        seed = self._state.seed
        if (self._plan.seed, self._plan.epoch) != (seed, epoch):
            self._plan = self._course.plan_at(seed, epoch) or self._recipe.plan(seed, epoch)
        self._state, self._position = self._state.at(epoch, position), position

    # --- what it costs ---------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Since the loader was made, read-ahead included (a forked child counts anew what its threads do):

        steps, samples; exposed_wait: total_s, first_s, max_s, p50_s, p95_s, p99_s of next(), share of the loop's time,
        and by_stage what of it was for which stage; bottleneck: that stage, or "training"; stages: thread seconds of
        locate, read (of these read_wait: the storage was waited for), verify, decode, place and python, and idle, of
        decoders without work; bytes: of frames, by tier (local: files in place; slab: the node
        cache's disks; ring: handed over by its daemon), and of a mean batch; errors: samples skipped
        and substituted, with the first messages; deal: its name, and why that one; images: what decoding met; slots:
        how many, held, bytes; prefetch_batches, threads, readers: as they are now; io: the
        engine's name, and why that one; bytes that the page cache had, bytes and reads that had to be waited for.
        """
        engine = self._engine
        native = engine.reader.stats() if engine is not None and engine.is_ours() else {}
        substitutes = self._options.on_error is OnError.SUBSTITUTE
        stages = {name: native.get(name, 0.0) for name in _STAGE_SECONDS}
        stages["python_s"] = engine.stage.python_s() if engine is not None else 0.0
        return {
            "steps": self._step_count,
            "samples": native.get("samples", 0),
            "exposed_wait": self._waits.as_dict(),
            "bottleneck": self._waits.bottleneck(),
            "stages": stages,
            "bytes": {**self._tiers.bytes(native.get("frame_bytes", 0)),
                      "batch": engine.reader.pulse().batch_bytes if native and engine is not None else 0},
            "errors": {"skipped": 0 if substitutes else self._bad_count,
                       "substituted": self._bad_count if substitutes else 0,
                       "first": list(dict.fromkeys(native.get("first_errors", ())))},
            "deal": {"name": self._dealt.name, "why": self._dealt.why} if self._dealt is not None else
                    {"name": None, "why": "it is chosen when the iteration begins"},
            "images": dict(native.get("images", {})),
            "slots": {"all": native.get("slots", 0), "held": native.get("slots_held", 0),
                      "bytes": native.get("slot_bytes", 0)},
            "prefetch_batches": self._prefetch_batches(engine) if native and engine is not None else 0,
            "threads": _threads(self._options),
            "readers": native.get("readers", 0),
            "io": _io_of(native),
        }

    def progress(self) -> str:
        """The latest steps in a few words, for a progress bar: how much of the time was spent waiting for data, for
        which stage, and the 95th percentile of the waits."""
        return self._waits.progress()

    def _trace(self, on: bool) -> None:
        """Whether native threads keep which stage they were in when."""
        self._is_traced = on
        if self._engine is not None and self._engine.is_ours():
            self._engine.reader.set_trace(on)

    def take_spans(self) -> list[tuple[str, int, int, int]]:
        """What native threads did while a profiler of torch recorded: (stage, thread, begin, end) in nanoseconds of
        time.monotonic_ns(), at most 65,536. Each is given once."""
        engine = self._engine
        return engine.reader.take_spans() if engine is not None and engine.is_ours() else []

    def _note_held(self, pulse: Pulse) -> None:
        held = pulse.slots_held
        if self._has_noted_held or held <= HELD_BATCHES_USUAL:
            return
        if held > HELD_BATCHES_NOTED or held * pulse.batch_bytes > HELD_BYTES_NOTED:
            self._has_noted_held = True
            log.warning("%d batches are held by views of their arrays, %d bytes each: their memory is not reused. Copy "
                        "what is kept longer (array.copy()), or drop it.", held, pulse.batch_bytes)

    # --- life ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop threads and processes. Idempotent. Batches that are held stay good."""
        self._is_closed = True
        self._end_iteration()
        self._engine = None
        self._announcer.close()
        self._stop_engine()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Loader has threads and does not pickle. Pickle its dataset and its state_dict(), and make a "
                        "Loader of them in the other process.")

    def _running_engine(self) -> _Engine:
        engine = self._engine
        if engine is not None and engine.is_ours():
            return engine
        if engine is not None:
            self._stop_engine()  # the parent's: in a forked child this only forgets
        self._course.rewind()  # nothing is on its way in a new one
        self._engine = _Engine(self._reader_factory(), self._recipe, self._columns, self._callables, self._options)
        if self._is_traced:
            self._engine.reader.set_trace(True)
        # Also when the loader is dropped without close(), and when the interpreter exits.
        self._stop_engine = weakref.finalize(self, self._engine.close)
        return self._engine

    def _gatherer(self, options: LoaderOptions, world: World) -> Gather | None:
        """What the ranks agree by; None: nothing."""
        return find_gather(options.all_gather, world, sys.modules)

    def _finisher(self, has_callables: bool) -> tuple[Callable[[Any], Any] | None, bool]:
        """What turns a Batch into what this class of loader yields (a function that pickles, or None), and whether it
        takes time. has_callables: user code made what is in it, else it is the reader's own memory."""
        return None, False

    def _pinner(self) -> Pinner | None:
        """What registers the memory of batches with a device; None: nothing does."""
        return None

    def _marks(self) -> tuple[int, int] | None:
        """Addresses of two functions that begin and end a range of a native stage; None: nobody looks."""
        return None

    def _range(self, name: str) -> AbstractContextManager[Any]:
        """Around what this thread does, for those who profile."""
        return _NO_RANGE


class _Iteration:
    """One pass over the loader, for as long as it is the newest."""

    def __init__(self, loader: Loader, number: int) -> None:
        self._loader, self.number = loader, number

    def __iter__(self) -> _Iteration:
        return self

    def __next__(self) -> Any:
        return self._loader._next(self)


class _Engine:
    """What runs: the native reader and the stage behind it, both of one process."""

    def __init__(
        self, reader: NativeReader, recipe: Recipe, columns: ColumnPlan, callables: Callables, options: LoaderOptions
    ) -> None:
        self._pid = os.getpid()
        self.reader = reader
        substitutes = None
        if options.on_error is OnError.SUBSTITUTE:
            substitutes = Substitutes(reader, recipe.sampler.datasets, columns.names, columns.kinds)
        self.batches = BatchReader(reader, columns.names, columns.kinds, substitutes)
        self.stage: Stage = make_stage(self.batches, callables, options.python_workers, options.python_mode,
                                       options.timeout_s)

    def is_ours(self) -> bool:
        """Whether this process made it; threads do not survive a fork."""
        return self._pid == os.getpid()

    def close(self) -> None:
        self.stage.close()


def mean_sample_bytes(dataset: Dataset | Mixture) -> float:
    """Bytes of a sample as stored, on average over the first shards; at least 1."""
    if isinstance(dataset, Mixture):
        return sum(mean_sample_bytes(each) * count
                   for each, count in zip(dataset.datasets, dataset.counts, strict=True)) / len(dataset)
    if dataset.window is not None and isinstance(dataset.schema, StreamSchema):
        return dataset.window.length * dataset.schema.token_bytes
    shards = list(itertools.islice(dataset.shards(), SHARDS_MEASURED))
    rows = sum(shard.rows for shard in shards)
    return max(1.0, sum(shard.bytes for shard in shards) / max(1, rows))


def _io_of(native: Mapping[str, Any]) -> dict[str, Any]:
    """How files are read, from the reader's stats: {} before there is one."""
    if not native:
        return {"name": None, "why": "it is chosen when the iteration begins", "cached_bytes": 0, "device_bytes": 0,
                "device_reads": 0}
    return {"name": native["io"], "why": native["io_choice"], "cached_bytes": native["io_bytes"]["cached"],
            "device_bytes": native["io_bytes"]["device"], "device_reads": native["io_device_reads"]}


def _threads(options: LoaderOptions) -> int:
    return options.threads or default_threads(os.environ, usable_cores(), machine_cores())


def _native_factory(
    datasets: Sequence[Dataset], plans: Sequence[ColumnPlan], options: LoaderOptions, pinner: Pinner | None,
    marks: tuple[int, int] | None,
) -> ReaderFactory:
    def make() -> NativeReader:
        return Reader(native_snapshots(datasets, options.io.value), [plan.outputs for plan in plans],
                      threads=_threads(options), reader_threads=READER_THREADS_MAX,
                      on_error="raise" if options.on_error is OnError.RAISE else "skip", pinner=pinner, marks=marks)

    return make
