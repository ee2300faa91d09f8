"""Which samples of a step come to the node that keeps them: the home deal, and when it is worth having.

The job's list says on which node each rank runs. Every block has one home among those nodes (`csrc/order/homes`); a
step is split so that each rank gets its exact share and as many samples as shares allow come from their home
(`csrc/order/deal`). A pure function of (step, rows, list): every rank computes the same, without a message. That all
ranks hold the same list is for the loader to make sure of, before its first batch. docs/deal.md is the specification.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from fastfeed._native.deal import DEAL_VERSION, Homes, deal_to_homes
from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import ConfigError
from fastfeed.loader.options import DealMode
from fastfeed.loader.sampler import Picks, physical_rows
from fastfeed.loader.steps import Step
from fastfeed.order import ShuffleMode

# With fewer active blocks a node, a rank's share comes from too few places of a sorted dataset: docs/deal.md has the
# classes a share at 64 blocks, and at fewer.
ACTIVE_BLOCKS_MIN = 64


def nodes_digest(nodes: Sequence[str]) -> str:
    """16 hex digits of a job's list: which node each rank is on. Equal lists, and only those, have equal digests."""
    digest: str = xxhash.xxh3_64_hexdigest(b"".join(len(name.encode()).to_bytes(8, "little") + name.encode()
                                                    for name in nodes))
    return digest


def active_blocks(datasets: Sequence[Dataset], shuffle: ShuffleMode, shuffle_window: int,
                  block_rows: int | None) -> int:
    """How many blocks are being read at any moment, over all `datasets`; the order's block size may be given."""
    return sum(_active_blocks(len(dataset), dataset.block_rows, shuffle, shuffle_window * (block_rows or
                              dataset.block_rows)) for dataset in datasets)


def _active_blocks(row_count: int, block_rows: int, shuffle: ShuffleMode, window_rows: int) -> int:
    if shuffle is ShuffleMode.NONE:
        return 1
    active_rows = row_count if shuffle is ShuffleMode.FULL else min(window_rows, row_count)
    return -(-active_rows // block_rows)


def deals_home(mode: DealMode, active_block_count: int, nodes: Sequence[str]) -> bool:
    """Whether a job deals by homes: where it asks for it, and by default where each node has blocks enough to mix."""
    node_count = len(set(nodes))
    if mode is DealMode.AUTO:
        return node_count > 1 and active_block_count >= ACTIVE_BLOCKS_MIN * node_count
    return mode is DealMode.HOME


class HomeDeal:
    """Shares by homes, for rank `rank` of `len(nodes)`; `nodes` names each rank's node. One thread at a time."""

    def __init__(self, rank: int, nodes: Sequence[str], datasets: Sequence[Dataset]) -> None:
        if not 0 <= rank < len(nodes):
            raise ConfigError(f"nodes= names the nodes of {len(nodes)} ranks, and this is rank {rank}: it needs one "
                              "name for each rank.")
        names = sorted(set(nodes), key=str.encode)
        number = {name: at for at, name in enumerate(names)}
        self.nodes = tuple(nodes)
        self._rank, self._world_size = rank, len(nodes)
        self._node_of_rank = np.array([number[name] for name in nodes], np.int32)
        self._node_count = len(names)
        self._homes = Homes(names, [(dataset.home_key, dataset.physical_block_rows) for dataset in datasets])
        self._datasets = datasets
        self._digest = nodes_digest(nodes)

    def share(self, step: Step, picks: Callable[[], Picks]) -> npt.NDArray[np.int64]:
        """This rank's samples of `step`, ascending."""
        dealt = deal_to_homes(self.homes(picks()), self._node_of_rank, self._node_count)
        count = len(dealt)
        return dealt[self._rank * count // self._world_size:(self._rank + 1) * count // self._world_size]

    def homes(self, picks: Picks) -> npt.NDArray[np.int32]:
        """The node that keeps each of `picks`, as its number among the distinct names in bytewise order."""
        rows = physical_rows(self._datasets, picks)
        return self._homes.of_rows(picks.rows if rows is None else rows, picks.sources)

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "home", "version": DEAL_VERSION, "nodes": self._digest}
