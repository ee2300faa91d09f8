"""The order of csrc/order: keyed permutations and the epoch's order, both ways."""

import numpy as np
import numpy.typing as npt

ORDER_VERSION: int
ROW_COUNT_MAX: int  # 2^48

def keyed_permutation(
    m: int, key: int, positions: npt.NDArray[np.int64], inverse: bool = False
) -> npt.NDArray[np.int64]:
    """The permutation of [0, m) with the 64-bit `key`, applied to each of `positions`. Releases the GIL.
    Keys that differ by little give related permutations: derive them (docs/order.md, section 2)."""

class EpochOrder:
    """One epoch's order of n rows; O(1) memory, immutable, thread-safe. `shuffle`: 0 identity, 1 full, 2 window."""

    def __init__(self, n: int, seed: int, epoch: int, shuffle: int, window_blocks: int, block_rows: int) -> None: ...
    def row(self, position: int) -> int: ...
    def position(self, row: int) -> int: ...
    def rows_range(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Rows at positions start..stop-1, int64 [stop - start]. Releases the GIL."""
    def rows_at(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
    def positions_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
