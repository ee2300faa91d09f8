"""When chunks are used, and what policies would make of it: csrc/cache/uses and policy."""

import numpy as np
import numpy.typing as npt

NO_USE: int  # a distance: never, as far as is known
WHOLE_PART: int  # parts of a chunk are counted in 1/256
STAGE_PART_MIN: int  # a use that reads less of a chunk is not worth fetching the whole for, unless it stays
KEPT_PART_MIN: int  # a use that reads less of a chunk does not bring it in at all

class ChunkUses:
    """The uses of chunks by one order, in `epoch` and the one after it. Immutable; borrows `starts` and `ends`.

    Block b lies in the bytes [starts[b], ends[b]) of a set, uint64, one a block (a short last one included); both
    ascend. A chunk is 1 MiB of these bytes. ConfigError where that is not so.
    """

    n: int
    seed: int
    epoch: int
    shuffle: int
    window_blocks: int
    block_rows: int

    def __init__(
        self, n: int, seed: int, epoch: int, shuffle: int, window_blocks: int, block_rows: int,
        starts: npt.NDArray[np.uint64], ends: npt.NDArray[np.uint64],
    ) -> None: ...  # fmt: skip
    @property
    def block_count(self) -> int: ...
    def block_use(self, block: int) -> list[tuple[int, int]]:
        """The positions of `epoch` in which rows of `block` come: one range, or two where the block is open over the
        epoch's end."""
    def in_epoch(
        self, chunks: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint16]]:
        """Every use of each of `chunks` in `epoch`: number in `chunks`, begin, end, part of the chunk that is read."""
    def next(
        self, position: int, chunks: npt.NDArray[np.int64], lead: int = 0
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint16]]:
        """How far the next use of each of `chunks` is from `position`, in positions (0: in use; NO_USE: none), the same
        for the first use that begins behind that one, and the part of the chunk that the first one still reads. A
        negative chunk has no use. lead: so many positions are read ahead, so uses begin that much earlier. Releases the
        GIL."""
    def next_one(self, position: int, chunk: int, lead: int = 0) -> tuple[int, int, int]:
        """`next` of one chunk, not negative. For one thread: keeps scratch memory."""
    def blocks_from(self, position: int, count: int) -> npt.NDArray[np.int64]:
        """At most `count` blocks whose uses begin at `position` or later in `epoch`, first begun first."""
    def blocks_at(self, position: int, count: int) -> npt.NDArray[np.int64]:
        """At most `count` blocks that are in use at `position`, last begun first."""

def simulate(
    policy: int, chunks: npt.NDArray[np.uint32], begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64],
    parts: npt.NDArray[np.uint16], dense: npt.NDArray[np.uint8], ranks: npt.NDArray[np.uint64], capacity_chunks: int,
    count_from: int = 0, count_until: int = ...,
) -> dict[str, int]:
    """What policy 0 (resident), 1 (MIN), 2 (LRU) or 3 (S3-FIFO) makes of the uses, which ascend by begin.

    ranks: one a chunk, all different; of residents the lowest stay. Returns demand and origin in 1/256 chunks, writes
    in chunks, uses, hits and exact (uses read past the cache), counted of uses that begin
    from tick count_from on and before count_until. Releases the GIL.
    """  # fmt: skip
