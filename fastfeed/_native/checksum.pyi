"""crc32c of the core (docs/format.md)."""

from typing import Any

import numpy as np
import numpy.typing as npt

Buffer = Any  # whatever has the buffer protocol (collections.abc.Buffer is 3.12)

def crc32c(data: Buffer, value: int = 0) -> int:
    """crc32c of what `value` was the crc32c of, followed by `data` (any C-contiguous buffer). Releases the GIL."""

def crc32c_portable(data: Buffer, value: int = 0) -> int: ...
def crc32c_combine(crc_a: int, crc_b: int, length_b: int) -> int: ...
def crc32c_blocks(data: Buffer, block_bytes: int) -> npt.NDArray[np.uint32]:
    """crc32c of each `block_bytes` of `data` (the last may be shorter), uint32 [ceil(len/block_bytes)].

    Releases the GIL."""

def crc32c_seeded_pages(data: Buffer, uid: bytes, first_page: int) -> npt.NDArray[np.uint32]:
    """crc32c(uid ‖ u64 page number ‖ page) of each 4096 bytes of `data`, whose size must be a multiple of 4096."""

def implementation() -> str: ...
