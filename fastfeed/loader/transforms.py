"""Transforms of numbers that run natively: `fastfeed.Cast`. Those of images are in `fastfeed.image`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastfeed.errors import ConfigError

CAST_TYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
              "float64")


@dataclass(frozen=True)
class Cast:
    """Give a column's numbers another type: `Cast("float32")`. For scalars, tensors, arrays and tokens.

    Floats become integers by truncation (saturating, NaN becomes 0), integers wrap as in C, anything but 0 is True.
    """

    dtype: str

    def __post_init__(self) -> None:
        try:
            name = np.dtype(self.dtype).name
        except TypeError:
            name = ""
        if name not in CAST_TYPES:
            raise ConfigError(f"Cast({self.dtype!r}): choose one of {', '.join(CAST_TYPES)}.")
        object.__setattr__(self, "dtype", name)
