"""What a loader can be told: names, aliases, validation.

`read_options` turns the keywords of a call into one frozen `LoaderOptions`. Every keyword is honoured or refused
with a `ConfigError` that says what to do; none is ignored. This module looks at values only: whether a column
exists, or how large a batch is in bytes, is for those who know the dataset.
"""

from __future__ import annotations

import difflib
import logging
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypedDict, TypeVar

from fastfeed._native.feed import io_uring_refusal
from fastfeed.errors import ConfigError
from fastfeed.format.sizes import parse_size
from fastfeed.order import ShuffleMode, shuffle_mode

log = logging.getLogger("fastfeed")

# A global batch larger than this is a mistake, and the arithmetic of shares stays far below 2^63.
BATCH_SIZE_MAX = 1 << 30
# Cumulative lengths times ranks stay below 2^63.
MAX_TOKENS_LIMIT = 1 << 40
# More threads than any machine has cores: a number like this is a typing mistake.
THREADS_MAX = 4096
PYTHON_WORKERS_MAX = 1024
# The order's functions take 64-bit unsigned seeds and epochs.
SEED_LIMIT = 1 << 64
# Half of that for epochs, so that there is always a next one.
EPOCH_LIMIT = 1 << 63


class Last(StrEnum):
    """What becomes of the rows after the last whole global batch."""

    DROP = "drop"
    PAD = "pad"
    SHORT = "short"


class OnError(StrEnum):
    """What becomes of a sample that cannot be read or decoded."""

    RAISE = "raise"
    SKIP = "skip"
    SUBSTITUTE = "substitute"


class DealMode(StrEnum):
    """Which rank gets which sample of a step."""

    AUTO = "auto"
    FIXED = "fixed"
    HOME = "home"


class PythonMode(StrEnum):
    """Where Python callables run."""

    THREADS = "threads"
    PROCESSES = "processes"


class Io(StrEnum):
    """How files are read."""

    AUTO = "auto"
    PREAD = "pread"
    URING = "uring"


class LoaderArguments(TypedDict, total=False):
    """The keywords of a loader. The second group are names that other loaders use for the same thing."""

    batch_size: int | None
    global_batch_size: int | None
    global_max_tokens: int | None
    length_column: str | None
    weights: str | None
    epoch_samples: int | None
    shuffle: str | bool
    shuffle_window: int
    block_rows: int | None
    deal: str
    seed: int
    epoch: int
    columns: Sequence[str] | None
    transforms: Mapping[str, Any] | None
    map_sample: Callable[..., Any] | None
    map_batch: Callable[..., Any] | None
    python_workers: int | None
    python_mode: str
    last: str
    rank: int | None
    world_size: int | None
    nodes: Sequence[str] | None
    all_gather: Callable[[str], Sequence[str]] | None
    threads: int | None
    prefetch: int | str
    io: str
    on_error: str
    timeout_s: float

    shuffle_seed: int
    cache_limit: int | str | None
    drop_last: bool
    pin_memory: bool
    collate_fn: Callable[..., Any] | None
    prefetch_factor: int | None
    predownload: int | None
    num_canonical_nodes: int | None
    num_workers: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """How one loader reads. Validated; exactly one of the first three is set."""

    batch_size: int | None = None
    global_batch_size: int | None = None
    global_max_tokens: int | None = None
    length_column: str | None = None
    weights: str | None = None
    epoch_samples: int | None = None
    shuffle: ShuffleMode = ShuffleMode.WINDOW
    shuffle_window: int = 1024
    block_rows: int | None = None
    deal: DealMode = DealMode.AUTO
    seed: int = 0
    epoch: int = 0
    columns: tuple[str, ...] | None = None
    transforms: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    map_sample: Callable[..., Any] | None = None
    map_batch: Callable[..., Any] | None = None
    collate_fn: Callable[..., Any] | None = None
    python_workers: int = 1
    python_mode: PythonMode = PythonMode.THREADS
    last: Last = Last.DROP
    rank: int | None = None
    world_size: int | None = None
    nodes: tuple[str, ...] | None = None
    all_gather: Callable[[str], Sequence[str]] | None = None
    threads: int | None = None
    prefetch_bytes: int = 256 << 20
    prefetch_samples: int | None = None
    prefetch_batches: int | None = None
    io: Io = Io.AUTO
    on_error: OnError = OnError.RAISE
    timeout_s: float = 300.0
    cache_limit_bytes: int | None = None

    def global_batch(self, world_size: int) -> int:
        """Samples that all ranks consume in one step, where it is a number of samples."""
        if self.global_batch_size is not None:
            return self.global_batch_size
        assert self.batch_size is not None  # read_options() saw to it
        return self.batch_size * world_size

    def step_size(self, world_size: int) -> dict[str, Any]:
        """What all ranks consume in one step, by name."""
        if self.global_max_tokens is None:
            return {"global batch": self.global_batch(world_size)}
        return {"global_max_tokens": self.global_max_tokens, "length_column": self.length_column}


# Another loader's keyword -> ours.
_RENAMED = {"shuffle_seed": "seed", "drop_last": "last", "prefetch_factor": "prefetch_batches",
            "predownload": "prefetch_samples"}
# Keywords of other loaders that mean nothing here: results and speed do not depend on them.
_MEANINGLESS = {
    "num_workers": "reading and decoding run in native threads: see threads=; Python callables: python_workers=",
    "num_canonical_nodes": "the order does not depend on the number of nodes",
}
# Keywords that we meet and cannot honour, and what to use instead.
_HINTS = {
    "sampler": "The order is shuffle= and seed=; for a sampler of your own use fastfeed.torch.MapDataset.",
    "batch_sampler": "Use batch_size= and shuffle=, or fastfeed.torch.MapDataset in a DataLoader of your own.",
    "timeout": "Use timeout_s=.",
    "persistent_workers": "Threads always persist; leave it out.",
    "multiprocessing_context": "Processes for Python callables are always spawned; leave it out.",
    "worker_init_fn": "There are no worker processes to initialise; leave it out.",
    "generator": "Use seed=.",
    "local": "Datasets are read in place; leave it out.",
    "split": "Pass the Dataset of the split.",
}
_NAMES = frozenset(LoaderArguments.__annotations__)
_Choice = TypeVar("_Choice", bound=StrEnum)


def read_options(arguments: Mapping[str, Any]) -> LoaderOptions:
    """Return the options that the keywords `arguments` mean. Raises ConfigError for what cannot be honoured."""
    given = _without_aliases(arguments)
    _refuse_unmet(given)
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name in _READERS:
            values.update(_READERS[name](name, value))
    _check_sizes(values)
    if (values.get("rank") is None) != (values.get("world_size") is None):
        raise ConfigError(f"rank={values.get('rank')} and world_size={values.get('world_size')}: give both or neither "
                          "(neither: torch.distributed, else the environment, else 0 of 1).")
    if values.get("deal") is DealMode.FIXED and (given.get("nodes"), given.get("all_gather")) != (None, None):
        raise ConfigError("nodes= and all_gather= are for deal='home' and 'auto'; leave them out with deal='fixed'.")
    return LoaderOptions(**values)


def _check_sizes(values: Mapping[str, Any]) -> None:
    sizes = {name: values.get(name) for name in ("batch_size", "global_batch_size", "global_max_tokens")}
    if sum(size is not None for size in sizes.values()) != 1:
        raise ConfigError("give either batch_size= (samples a rank and step) or global_batch_size= (of all ranks) or "
                          "global_max_tokens= (tokens of all ranks); got "
                          f"{', '.join(f'{name}={size}' for name, size in sizes.items())}.")
    if values.get("length_column") is not None and sizes["global_max_tokens"] is None:
        raise ConfigError("length_column= says how long samples are for global_max_tokens=; leave it out.")
    if sizes["global_max_tokens"] is not None and values.get("last") is Last.PAD:
        raise ConfigError("last='pad' fills steps up to a number of samples, and with global_max_tokens= they have "
                          "none: use 'short' or 'drop'.")
    if values.get("epoch_samples") is not None and values.get("weights") is None:
        raise ConfigError("epoch_samples= is how many samples are drawn an epoch with weights=; leave it out.")


def _without_aliases(arguments: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    source: dict[str, str] = {}
    for name, value in arguments.items():
        if name not in _NAMES:
            raise ConfigError(unknown_keyword(name, _NAMES))
        if name in _MEANINGLESS:
            if value is not None:
                log.warning("%s=%r has no meaning in fastfeed and is not used: %s", name, value, _MEANINGLESS[name])
            continue
        ours = _RENAMED.get(name, name)
        if ours in given:
            raise ConfigError(f"{source[ours]}= and {name}= mean the same; give one of them.")
        given[ours], source[ours] = _alias_value(name, value), name
    budgets = [source[name] for name in ("prefetch", "prefetch_batches", "prefetch_samples")
               if given.get(name) is not None]
    if len(budgets) > 1:
        raise ConfigError(f"{'= and '.join(budgets)}= all say how much to read ahead; give one of them.")
    return given


def _alias_value(name: str, value: Any) -> Any:
    if name != "drop_last":
        return value
    if not isinstance(value, bool):
        raise ConfigError(f"drop_last={value!r}: it is True (last='drop') or False (last='short').")
    return Last.DROP.value if value else Last.SHORT.value


def unknown_keyword(name: str, known: Iterable[str]) -> str:
    """The message for a keyword that is not among the `known` ones."""
    if name in _HINTS:
        return f"{name}= cannot be honoured. {_HINTS[name]}"
    close = difflib.get_close_matches(name, known, n=1)
    return f"there is no keyword {name}=." + (f" Did you mean {close[0]}=?" if close else "")


def _refuse_unmet(given: Mapping[str, Any]) -> None:
    """Demands that this release cannot meet are errors, never something else."""
    if given.get("io") == Io.URING and (refusal := io_uring_refusal()) is not None:
        raise ConfigError(f"io='uring': io_uring cannot be used: {refusal}. Use 'pread', or 'auto' to let fastfeed "
                          "choose.")
    if given.get("pin_memory"):
        raise ConfigError("pin_memory= is for tensors: use fastfeed.torch.Loader.")


def _choice_text(name: str, value: Any, choices: Iterable[str]) -> None:
    if value not in tuple(choices):
        raise ConfigError(f"{name}={value!r}: choose one of {', '.join(map(repr, choices))}.")


def _whole(name: str, value: Any, least: int, most: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or not least <= number <= most:
        raise ConfigError(f"{name}={value!r}: a whole number from {least} to {most} is needed.")
    return number


def _count(least: int, most: int) -> Callable[[str, Any], dict[str, Any]]:
    return lambda name, value: {name: _whole(name, value, least, most)}


def _optional(reader: Callable[[str, Any], dict[str, Any]]) -> Callable[[str, Any], dict[str, Any]]:
    return lambda name, value: {} if value is None else reader(name, value)


def _choice(kind: type[_Choice]) -> Callable[[str, Any], dict[str, Any]]:
    def read(name: str, value: Any) -> dict[str, Any]:
        _choice_text(name, value, [choice.value for choice in kind])
        return {name: kind(value)}

    return read


def _callable(name: str, value: Any) -> dict[str, Any]:
    if not callable(value):
        raise ConfigError(f"{name}={value!r}: it cannot be called.")
    return {name: value}


def _shuffle(name: str, value: Any) -> dict[str, Any]:
    # None is a DataLoader's default, and means what False does.
    return {name: shuffle_mode(False if value is None else value)}


def _prefetch(name: str, value: Any) -> dict[str, Any]:
    return {"prefetch_bytes": parse_size(value, name)}


def _timeout(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"{name}={value!r}: a number of seconds above 0 is needed.")
    return {name: float(value)}


def _columns(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f"{name}={value!r}: a list of column names is needed.")
    names = tuple(value)
    if not names or not all(isinstance(column, str) for column in names) or len(set(names)) != len(names):
        raise ConfigError(f"{name}={list(names)!r}: one or more different column names are needed.")
    return {name: names}


def _lane(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{name}={value!r}: the name of a lane is needed, like 'weight' or 'text.bytes'.")
    return {name: value}


def _nodes(name: str, value: Any) -> dict[str, Any]:
    names = () if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)
    if not names or not all(isinstance(node, str) and node for node in names):
        raise ConfigError(f"{name}={value!r}: the name of each rank's node is needed, in the order of ranks.")
    return {name: names}


def _transforms(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}={value!r}: a mapping from column names to lists of transforms is needed, as in "
                          "transforms={'image': [fastfeed.image.Resize(224)]}.")
    chains = {column: tuple(chain) if isinstance(chain, Sequence) else (chain,) for column, chain in value.items()}
    return {name: chains}


def _cache_limit(name: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {"cache_limit_bytes": parse_size(value, name)}


_READERS: dict[str, Callable[[str, Any], dict[str, Any]]] = {
    "batch_size": _optional(_count(1, BATCH_SIZE_MAX)),
    "global_batch_size": _optional(_count(1, BATCH_SIZE_MAX)),
    "global_max_tokens": _optional(_count(1, MAX_TOKENS_LIMIT)),
    "length_column": _optional(_lane),
    "weights": _optional(_lane),
    "epoch_samples": _optional(_count(1, 1 << 48)),
    "shuffle": _shuffle,
    "shuffle_window": _count(1, 1 << 48),
    "block_rows": _optional(_count(1, 1 << 48)),
    "deal": _choice(DealMode),
    "seed": _count(0, SEED_LIMIT - 1),
    "epoch": _count(0, EPOCH_LIMIT - 1),
    "columns": _optional(_columns),
    "transforms": _optional(_transforms),
    "map_sample": _optional(_callable),
    "map_batch": _optional(_callable),
    "collate_fn": _optional(_callable),
    "python_workers": _optional(_count(0, PYTHON_WORKERS_MAX)),
    "python_mode": _choice(PythonMode),
    "last": _choice(Last),
    "rank": _optional(_count(0, BATCH_SIZE_MAX)),
    "world_size": _optional(_count(1, BATCH_SIZE_MAX)),
    "nodes": _optional(_nodes),
    "all_gather": _optional(_callable),
    "threads": _optional(_count(1, THREADS_MAX)),
    "prefetch": _prefetch,
    "prefetch_samples": _optional(_count(1, 1 << 48)),
    "prefetch_batches": _optional(_count(1, 1 << 20)),
    "io": _choice(Io),
    "on_error": _choice(OnError),
    "timeout_s": _timeout,
    "cache_limit": _cache_limit,
}
