"""A recipe: all that decides which rows a loader reads when, as data; the daemon computes the future from it.

JSON, because it is sent once an epoch and people read it in the daemon's answers. A recipe is believed by nobody: its
reader checks ranges (`Recipe.of`), compares the fingerprint with what it computes itself, and prefetches nothing for
one that does not fit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from fastfeed.wire.fields import U64_MAX
from fastfeed.wire.framing import ErrorCode, ProtocolError
from fastfeed.wire.messages import JSON_BYTES_MAX, URL_BYTES_MAX

RECIPE_VERSION = 1
# What the order function takes (fastfeed/order.py).
ROWS_MAX = 1 << 48
FINGERPRINT_ROWS = 8
STEPS_MAX = 64
KINDS = ("order", "opaque")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one rank reads one set.

    kind: "order": an epoch has `rows` positions, and `order` (shuffle, shuffle_window, block_rows, version) says which
    row of the view comes at which. "opaque": what comes cannot be said this way (mixtures, weights, token budgets,
    views by lists of rows); of it only the dataset, rank and place are known.

    view: the steps from the snapshot's rows to the view's, each a mapping: {"windows": [length, stride]}, {"range":
    [start, stop, step]}, {"filter": expression}, {"split": [name, seed, low, high]}. deal: what `Deal.describe` gave.
    global_batch: samples of all ranks a step. fingerprint: (position, row) pairs of `epoch`, at equal distances.
    """

    kind: str
    url: str
    snapshot: int
    content: str  # Dataset.fingerprint: equal where the view's rows are
    rows: int
    view: Sequence[Mapping[str, Any]] = ()
    order: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    epoch: int = 0
    position: int = 0
    global_batch: int = 1
    rank: int = 0
    world_size: int = 1
    last: str = "drop"
    ahead_bytes: int = 0  # of this rank's samples, so much is read ahead of its place, in whole batches
    deal: Mapping[str, Any] = field(default_factory=dict)
    nodes: Sequence[str] = ()  # of each rank, where the deal goes by homes
    fingerprint: Sequence[tuple[int, int]] = ()
    job: str = ""

    def to_json(self) -> bytes:
        """The bytes of a Register message. ProtocolError where they are too long for one."""
        values = {"version": RECIPE_VERSION, **asdict(self)}
        data = json.dumps(values, separators=(",", ":"), ensure_ascii=True).encode()
        if len(data) > JSON_BYTES_MAX:
            raise ProtocolError(f"a recipe of {len(data)} bytes; at most {JSON_BYTES_MAX} are sent")
        return data

    @classmethod
    def of(cls, data: bytes) -> Recipe:
        """The recipe in a message, with every number in its range. ProtocolError says what is wrong with it."""
        try:
            values = json.loads(data)
            if not isinstance(values, dict) or values.get("version") != RECIPE_VERSION:
                raise ProtocolError(f"no recipe of version {RECIPE_VERSION}", ErrorCode.UNSUPPORTED)
            known = {each.name for each in fields(cls)}
            recipe = cls(**{name: value for name, value in values.items() if name in known})
            recipe = _with_tuples(recipe)
            _check(recipe)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ProtocolError(f"no recipe: {error}") from error
        return recipe


def _with_tuples(recipe: Recipe) -> Recipe:
    pairs = tuple((int(position), int(row)) for position, row in recipe.fingerprint)
    return replace(recipe, fingerprint=pairs, view=tuple(recipe.view), nodes=tuple(recipe.nodes))


def _check(recipe: Recipe) -> None:
    """ValueError or TypeError for the first value that cannot be."""
    if recipe.kind not in KINDS:
        raise ValueError(f"kind {recipe.kind!r}")
    for name in ("url", "content", "last", "job"):
        value = getattr(recipe, name)
        if not isinstance(value, str) or len(value) > URL_BYTES_MAX:
            raise ValueError(f"{name} is no text of at most {URL_BYTES_MAX} bytes")
    limits = {"snapshot": U64_MAX, "rows": ROWS_MAX, "seed": U64_MAX, "epoch": 1 << 32, "position": recipe.rows,
              "global_batch": 1 << 32, "world_size": 1 << 32, "rank": recipe.world_size - 1,
              "ahead_bytes": 1 << 48}  # fmt: skip
    for name, limit in limits.items():
        value = getattr(recipe, name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
            raise ValueError(f"{name}={value!r} is outside 0 .. {limit}")
    if not isinstance(recipe.order, dict) or not isinstance(recipe.deal, dict):
        raise TypeError("order and deal are objects")
    if len(recipe.view) > STEPS_MAX or not all(isinstance(step, dict) and len(step) == 1 for step in recipe.view):
        raise ValueError(f"a view is at most {STEPS_MAX} steps of one name each")
    if len(recipe.fingerprint) > FINGERPRINT_ROWS or not all(
        0 <= position < recipe.rows and 0 <= row < recipe.rows for position, row in recipe.fingerprint
    ):
        raise ValueError(f"a fingerprint has at most {FINGERPRINT_ROWS} pairs, each of the rows")
    if not all(isinstance(node, str) for node in recipe.nodes):
        raise TypeError("nodes are names")
