"""Where the blocks of a recipe lie in the bytes of its snapshot: from manifest and index to a geometry.

What is needed is the first and the last byte of every block, two looks into the mapped row index each. Of views whose
rows do not ascend, or that are chosen by lanes, nothing is said: their bytes are not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastfeed._native.deal import Homes
from fastfeed._native.selection import Selection
from fastfeed.cache.future import CHUNK_BYTES, Geometry, OrderShape, geometry_of
from fastfeed.dataset.manifest import Manifest, home_key
from fastfeed.dataset.payload import LocalPayload
from fastfeed.dataset.row_map import Everything, RowMap, of_selection
from fastfeed.dataset.shards import ShardList
from fastfeed.dataset.views import Select, Source, Split, Step
from fastfeed.dataset.windows import Window
from fastfeed.errors import ConfigError, FastfeedError
from fastfeed.format.layout import HEADER_BYTES
from fastfeed.format.schema import StreamSchema
from fastfeed.order import ORDER_VERSION, Order, ShuffleMode, shuffle_mode
from fastfeed.wire.recipe import Recipe

# A block is about 4 MiB, so this is 256 TiB of data, and 1 GiB of memory here.
BLOCKS_MAX = 1 << 26
# Offsets of frames in the row index are in units of 8 bytes.
_UNIT = 8

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class SnapshotRows:
    """What says where rows are: a manifest, its mapped index files, and the rows that were not deleted (None: all)."""

    manifest: Manifest
    index_maps: Sequence[memoryview]
    present: Selection | None = None


GeometryOf = Callable[[SnapshotRows, Sequence[bytes], Recipe, OrderShape], Geometry]


class OpaqueError(FastfeedError):
    """The future of a recipe cannot be computed; the message says why. Its reads are served on demand."""


def order_shape(recipe: Recipe) -> OrderShape:
    """The order of a recipe. OpaqueError where it has none that is known here, or another one than the loader's."""
    if recipe.kind != "order":
        raise OpaqueError("the loader's rows follow no single order (a mixture, weights, or steps by tokens)")
    version = recipe.order.get("version")
    if version != ORDER_VERSION:
        raise OpaqueError(f"the loader's order has version {version!r}, the daemon's {ORDER_VERSION}")
    try:
        mode = recipe.order.get("shuffle")
        shuffle = shuffle_mode(False if mode in ("none", False) else mode)  # type: ignore[arg-type]
        # Window and block size decide only where there are windows (loader/sampler.py).
        window = int(recipe.order.get("shuffle_window") or 1)
        block_rows = int(recipe.order.get("block_rows") or 0)
        order = Order(recipe.rows, seed=recipe.seed, epoch=recipe.epoch, shuffle=shuffle.argument,
                      shuffle_window=window, block_rows=max(1, block_rows))  # fmt: skip
    except (ConfigError, TypeError, ValueError) as error:
        raise OpaqueError(f"the loader's order makes no sense here: {error}") from error
    for position, row in recipe.fingerprint:
        if order[position] != row:
            raise OpaqueError(f"position {position} is row {row} for the loader, and row {order[position]} here")
    return OrderShape(recipe.rows, recipe.seed, shuffle, window, block_rows)


def view_steps(view: Sequence[Mapping[str, Any]]) -> tuple[Window | None, list[Step]]:
    """The windows and steps that a recipe's view means. OpaqueError for those that need payload, lanes or lists."""
    window: Window | None = None
    steps: list[Step] = []
    try:
        for each in view:
            ((name, value),) = each.items()
            if name == "windows" and not steps and window is None:
                window = Window.checked(*value)
            elif name == "range":
                rows = range(*value)
                if rows.step < 1:
                    raise OpaqueError("the view reads rows backwards")
                steps.append(Select(rows))
            elif name == "split":
                steps.append(Split(*value))
            else:
                raise OpaqueError(f"the view has a step {name!r}, which needs more than manifest and index")
    except (TypeError, ValueError) as error:
        raise OpaqueError(f"the view {list(view)!r} is none: {error}") from error
    return window, steps


def row_geometry(opened: SnapshotRows, keys: Sequence[bytes], recipe: Recipe, order: OrderShape) -> Geometry:
    """The blocks of a recipe over the shards of `opened`, whose keys these are, in manifest order. OpaqueError."""
    window, steps = view_steps(recipe.view)
    row_map = _row_map(opened, window, steps)
    rows = len(row_map)
    if rows != recipe.rows:
        raise OpaqueError(f"the loader counts {recipe.rows} rows, the daemon {rows}")
    block_count = -(-rows // order.block_rows)
    if block_count > BLOCKS_MAX:
        raise OpaqueError(f"{block_count} blocks of {order.block_rows} rows; at most {BLOCKS_MAX} are looked at")
    firsts = np.arange(block_count, dtype=np.int64) * order.block_rows
    lasts = np.minimum(firsts + order.block_rows, rows) - 1
    places = _Places(opened)
    if isinstance(opened.manifest.schema, StreamSchema):
        if window is None:
            raise OpaqueError("documents of a stream are read one by one")
        token_bytes = opened.manifest.schema.token_bytes
        starts = places.of_tokens(row_map.physical(firsts) * window.stride, token_bytes)
        ends = places.of_tokens(row_map.physical(lasts) * window.stride + window.length - 1, token_bytes)
        ends += np.uint64(token_bytes)
    else:
        starts = places.of_rows(row_map.physical(firsts), 0)
        ends = places.of_rows(row_map.physical(lasts), 1)
    if is_home_deal(recipe):
        away = _homes(opened, window, row_map.physical(firsts), recipe) != _own_node(recipe)
        ends[away] = starts[away]
    shards = opened.manifest.shards
    return geometry_of(keys, shards.file_bytes, starts, ends, shards.payload_ends)


def is_home_deal(recipe: Recipe) -> bool:
    """Whether samples go to the nodes where their blocks are at home (docs/deal.md): this node then reads those blocks,
    and few rows of others, which it asks for as they come."""
    return recipe.deal.get("kind") == "home" and len(recipe.nodes) == recipe.world_size


def _node_names(recipe: Recipe) -> list[str]:
    return sorted(set(recipe.nodes), key=str.encode)


def _own_node(recipe: Recipe) -> int:
    return _node_names(recipe).index(recipe.nodes[recipe.rank])


def _homes(opened: SnapshotRows, window: Window | None, rows: I64, recipe: Recipe) -> npt.NDArray[np.int32]:
    """The number of the node that is home of each of these physical rows."""
    manifest = opened.manifest
    block_rows = manifest.block_rows
    if window is not None and isinstance(manifest.schema, StreamSchema):
        block_rows = window.block_rows(manifest.schema.token_bytes)
    homes: npt.NDArray[np.int32] = Homes(_node_names(recipe), [(home_key(manifest), block_rows)]).of_rows(rows)
    return homes


def row_extent(opened: SnapshotRows, row: int) -> tuple[int, int, int]:
    """The number of a row's shard, and where the row begins and ends in it; of a stream, where a token does.
    ConfigError where there is no such row."""
    manifest = opened.manifest
    stream = isinstance(manifest.schema, StreamSchema)
    row_map = _row_map(opened, None, [])
    rows = manifest.tokens if stream else len(row_map)
    if not 0 <= row < rows:
        raise ConfigError(f"there is no row {row}: the snapshot has {rows}.")
    places = _Places(opened)
    if isinstance(manifest.schema, StreamSchema):
        start = int(places.of_tokens(np.array([row]), manifest.schema.token_bytes)[0])
        end = start + manifest.schema.token_bytes
    else:
        physical = row_map.physical(np.array([row], np.int64))
        start, end = int(places.of_rows(physical, 0)[0]), int(places.of_rows(physical, 1)[0])
    return places.shard_at(start, end)


def _row_map(opened: SnapshotRows, window: Window | None, steps: Sequence[Step]) -> RowMap:
    """Which physical row each row of the view is."""
    manifest = opened.manifest
    count = manifest.rows if window is None else window.count(manifest.tokens)
    row_map: RowMap = Everything(count) if opened.present is None else of_selection(opened.present)
    # Steps that read files were refused: the shards' folder is never looked at.
    source = Source(ShardList(LocalPayload(Path()), manifest, opened.index_maps), manifest.schema, window, count)
    try:
        for step in steps:
            row_map = step.apply(row_map, source)
    except (FastfeedError, IndexError, ValueError) as error:
        raise OpaqueError(f"the view cannot be made here: {error}") from error
    return row_map


class _Places:
    """Byte places in a set: each shard begins at a chunk of its own."""

    def __init__(self, opened: SnapshotRows) -> None:
        self._opened = opened
        shards = opened.manifest.shards
        self._shards = shards
        chunks = -(-shards.file_bytes.astype(np.int64) // CHUNK_BYTES)
        self._bases = (np.cumsum(chunks) - chunks).astype(np.uint64) * np.uint64(CHUNK_BYTES)
        self._row_ends = np.cumsum(shards.rows, dtype=np.int64)

    def shard_at(self, start: int, end: int) -> tuple[int, int, int]:
        """The shard that bytes of the set lie in, and where they begin and end in it."""
        shard = int(np.searchsorted(self._bases, np.uint64(start), "right")) - 1
        base = int(self._bases[shard])
        return shard, start - base, end - base

    def of_rows(self, rows: I64, edge: int) -> U64:
        """Where each of the ascending `rows` begins (edge 0) or ends (edge 1)."""
        which = np.searchsorted(self._row_ends, rows, "right")
        out = np.zeros(len(rows), np.uint64)
        # Not np.unique: its first call imports numpy.ma, 12 ms in which the first loader's prefetch does not begin.
        firsts = np.flatnonzero(np.diff(which, prepend=-1)).tolist()
        for first, stop in pairwise([*firsts, len(rows)]):
            shard = int(which[first])
            count = int(self._shards.rows[shard])
            local = rows[first:stop] - (int(self._row_ends[shard]) - count) + edge
            out[first:stop] = self._bases[shard] + self._offsets(shard, local, count)
        return out

    def _offsets(self, shard: int, local: I64, count: int) -> U64:
        """Where rows of a shard begin; row `count` begins where its payload ends."""
        payload_end = int(self._shards.payload_ends[shard])
        at = int(self._shards.row_index_at[shard])
        if at == 0:
            stride = (payload_end - HEADER_BYTES) // max(1, count)
            return (HEADER_BYTES + local * stride).astype(np.uint64)
        index = np.frombuffer(self._opened.index_maps[self._shards.index_file[shard]], "<u4", count, at)
        offsets = np.full(len(local), payload_end, np.uint64)
        inside = local < count
        offsets[inside] = index[local[inside]].astype(np.uint64) * np.uint64(_UNIT)
        # An index that lies is found when its rows are read; here it must not lead out of the shard.
        return np.minimum(offsets, np.uint64(payload_end))

    def of_tokens(self, tokens: I64, token_bytes: int) -> U64:
        """Where each of the ascending `tokens` of the stream begins."""
        ends = np.cumsum(self._shards.tokens, dtype=np.int64)
        which = np.minimum(np.searchsorted(ends, tokens, "right"), len(ends) - 1)
        local = tokens - (ends[which] - self._shards.tokens[which].astype(np.int64))
        return self._bases[which] + (HEADER_BYTES + local * token_bytes).astype(np.uint64)


def block_rows_for(recipe: Recipe, opened: SnapshotRows) -> int:
    """Rows a block where the order itself has none: as many as lie in a block of the dataset."""
    manifest = opened.manifest
    return max(1, manifest.block_rows * recipe.rows // max(1, manifest.rows))


def shape_for(recipe: Recipe, opened: SnapshotRows) -> OrderShape:
    """The order of a recipe, with blocks to count in even where it has no windows. OpaqueError."""
    order = order_shape(recipe)
    if order.block_rows:
        return order
    return order._replace(block_rows=block_rows_for(recipe, opened))


__all__ = ["GeometryOf", "OpaqueError", "OrderShape", "ShuffleMode", "SnapshotRows", "row_geometry", "shape_for"]
