"""Many small files at once (csrc/io/whole_files.hpp)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

def read_whole_files(
    paths: Sequence[bytes], offsets: npt.NDArray[np.int64], into: Any
) -> tuple[int, int] | None:
    """Read file i into bytes [offsets[i], offsets[i+1]) of the writable buffer `into`, which has at least one byte more
    than offsets[-1]. None where every file has that length; else (i, the length found) of the first that has not: what
    is longer counts as one byte more. Releases the GIL for all files together. OSError names the file."""
