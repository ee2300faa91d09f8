"""Images: probing, checking and decoding one at a time (csrc/codec/image.hpp)."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Buffer = Any

class ImageInfo(NamedTuple):
    width: int
    height: int
    channels: int
    encoding: int  # 1 JPEG, 2 PNG, 3 WebP
    orientation: int

def probe(encoded: Buffer) -> ImageInfo:
    """Headers only. CorruptDataError where it is no JPEG, PNG or WebP, or breaks a limit."""

def check_structure(encoded: Buffer) -> None:
    """CorruptDataError where the file is not whole."""

def probe_many(
    values: Buffer, value_offsets: npt.NDArray[np.int64], nulls: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.uint8]:
    """The 12-byte fixed part of each image, uint8 [n * 12] (zeros for nulls). CorruptDataError names the index.
    Releases the GIL."""

class ImageProgram(NamedTuple):
    """csrc's ImageProgram; enums as their numbers. Pickles, so that states and workers can carry it."""

    decode: bool = True
    apply_exif: bool = True
    # 0 none, 1 random_resized_crop, 2 resize_exact, 3 resize_short, 4 resize_short_center_crop, 5 center_crop
    sizing: int = 0
    out_height: int = 0
    out_width: int = 0
    short_side: int = 0
    scale_min: float = 0.08
    scale_max: float = 1.0
    ratio_min: float = 0.75
    ratio_max: float = 4 / 3
    flip_probability: float = 0.0
    normalize: bool = False
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    stddev: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pixel_type: int = 0  # 0 uint8, 1 float32, 2 float16
    layout: int = 0  # 0 CHW, 1 HWC
    dct_scaling: bool = True

def decode(
    encoded: Buffer, program: ImageProgram, seed: int = 0, epoch: int = 0, position: int = 0, row: int = 0
) -> npt.NDArray[Any]:
    """Decode one image: [3, H, W] or [H, W, 3] of the program's type. Owns its memory. Releases the GIL."""

def random_resized_crop_box(
    program: ImageProgram, height: int, width: int, seed: int, epoch: int, position: int, row: int
) -> tuple[int, int, int, int]:
    """(top, left, height, width) that `decode` takes for this sample."""

def random_flip(program: ImageProgram, seed: int, epoch: int, position: int, row: int) -> bool:
    """Whether `decode` mirrors this sample."""

def sample_bits(seed: int, epoch: int, position: int, row: int, index: int) -> int:
    """Draw number `index` of a sample: 64 uniform bits (docs/transforms.md)."""
