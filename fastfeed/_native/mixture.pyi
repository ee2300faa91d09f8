"""A mixture's epoch of csrc/order: from positions to samples of sources, and back (docs/mixtures.md, section 7)."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

LENGTH_MAX: int  # 2^48 positions of an epoch
SOURCES_MAX: int
SEGMENTS_MAX: int

def source_seed(seed: int, source: int) -> int:
    """The seed of the own order of the source with this number."""

class MixtureEpoch:
    """One epoch. Immutable, thread-safe; memory is segments times sources, whatever the length.

    segments: (periods, denominator, counts) each: the first j periods hold floor(j * counts[k] / denominator) samples
    of source k. `shuffled`: each period in the order of its keyed permutation; else source after source."""

    def __init__(self, seed: int, epoch: int, shuffled: bool,
                 segments: Iterable[tuple[int, int, Sequence[int]]]) -> None: ...
    @property
    def length(self) -> int: ...
    @property
    def totals(self) -> tuple[int, ...]:
        """Samples of each source."""
    def picks(self, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """The source, and the index among its samples of the epoch, at each position. IndexError outside. Releases the
        GIL; consecutive positions are fastest."""
    def positions_of(
        self, sources: npt.NDArray[np.int32], indexes: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """The position at which each of these samples comes. IndexError outside. Releases the GIL."""
