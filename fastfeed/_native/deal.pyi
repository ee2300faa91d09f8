"""The deal of csrc/order: homes of blocks, and who takes which sample of a step (docs/deal.md)."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

DEAL_VERSION: int

def node_key(name: str) -> int:
    """The 64-bit key of a node's name."""

class Homes:
    """The homes of blocks over one list of nodes; keeps the last 65,536. One thread at a time."""

    def __init__(self, names: Iterable[str], datasets: Iterable[tuple[int, int]]) -> None:
        """`names`: 1 to 2^20 nodes; their places number them. `datasets`: (key, rows a block) of each source."""
    def of_rows(
        self, rows: npt.NDArray[np.int64], sources: npt.NDArray[np.int32] | None = None
    ) -> npt.NDArray[np.int32]:
        """The number of the home node of each row's block. Releases the GIL."""

def deal_to_homes(
    homes: npt.NDArray[np.int32], node_of_rank: npt.NDArray[np.int32], node_count: int
) -> npt.NDArray[np.int64]:
    """A permutation of 0..m-1: rank r of R takes places floor(rm/R) to floor((r+1)m/R) - 1. Releases the GIL."""
