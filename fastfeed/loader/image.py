"""`fastfeed.image`: transforms that run natively while an image is decoded (docs/transforms.md).

Names, arguments and defaults are those of torchvision's v2 transforms. A chain is compiled into one ImageProgram, so
that only the pixels that the result needs are decoded. Transforms are values: frozen, comparable, picklable. They
hold no randomness: that is a function of (seed, epoch, position, row).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastfeed._native.image import ImageProgram
from fastfeed.errors import ConfigError

# Those of csrc/codec/image.hpp: one side, and one whole output.
SIDE_MAX = 65_535
PIXELS_MAX = 1 << 28

_SIZING_NONE, _SIZING_RANDOM_RESIZED_CROP, _SIZING_RESIZE, _SIZING_RESIZE_SHORT = 0, 1, 2, 3
_SIZING_RESIZE_SHORT_CENTER_CROP, _SIZING_CENTER_CROP = 4, 5
_PIXEL_TYPES = {"uint8": 0, "float32": 1, "float16": 2}
_LAYOUTS = {"CHW": 0, "HWC": 1}

ORDERS = (
    "Supported chains: Decode(), then one of RandomResizedCrop, Resize, CenterCrop or Resize(int) with CenterCrop, "
    "then RandomHorizontalFlip, Normalize and ToLayout in any order, each at most once. Each part may be left out; "
    "Python callables may follow."
)


@dataclass(frozen=True)
class Decode:
    """Decode to RGB, as large as the image is. Any other transform decodes too; write it to turn `exif` off.

    `exif`: turn the image as its EXIF orientation says.
    """

    exif: bool = True


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of the image, resized to `size` (one side of a square, or (height, width)).

    `scale` bounds the part's share of the image's area, `ratio` its width over height.
    """

    size: int | tuple[int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3.0 / 4.0, 4.0 / 3.0)

    def __post_init__(self) -> None:
        _set(self, size=_height_width(self, self.size))
        _set(self, scale=_bounds(self, "scale", self.scale), ratio=_bounds(self, "ratio", self.ratio))
        if self.ratio[0] <= 0 or self.scale[1] <= 0:
            raise ConfigError(f"{self!r}: an area and a ratio are more than 0. The defaults are scale=(0.08, 1.0), "
                              "ratio=(3/4, 4/3).")


@dataclass(frozen=True)
class Resize:
    """Resize to `size`: (height, width), or the length of the shorter side, which keeps the aspect ratio.

    The second alone gives images of different shapes; follow it with CenterCrop where a batch should be one array.
    """

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        sides = _sides(self, self.size)
        _set(self, size=sides[0] if len(sides) == 1 else (sides[0], sides[1]))


@dataclass(frozen=True)
class CenterCrop:
    """The middle of the image, `size` large (one side of a square, or (height, width)).

    Zeros surround an image that is smaller.
    """

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        _set(self, size=_height_width(self, self.size))


@dataclass(frozen=True)
class RandomHorizontalFlip:
    """Mirror left and right with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        if not _is_number(self.p) or not 0.0 <= self.p <= 1.0:
            raise ConfigError(f"RandomHorizontalFlip(p={self.p!r}): p is a probability, from 0 to 1.")


@dataclass(frozen=True)
class Normalize:
    """(value / 255 - mean) / std for each channel, as `dtype` ("float32" or "float16").

    torchvision's needs a float image first (ToDtype(torch.float32, scale=True)); here that is included.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        _set(self, mean=_three(self, "mean", self.mean), std=_three(self, "std", self.std))
        if 0.0 in self.std:
            raise ConfigError(f"{self!r}: a std of 0 would divide by zero.")
        if self.dtype not in ("float32", "float16"):
            raise ConfigError(f"Normalize(dtype={self.dtype!r}): choose 'float32' or 'float16'.")


@dataclass(frozen=True)
class ToLayout:
    """How pixels lie: "CHW" (the default without it: planes of red, green, blue) or "HWC"."""

    layout: str

    def __post_init__(self) -> None:
        if self.layout not in _LAYOUTS:
            raise ConfigError(f"ToLayout({self.layout!r}): choose 'CHW' or 'HWC'.")


# For isinstance().
TRANSFORMS = Decode | RandomResizedCrop | Resize | CenterCrop | RandomHorizontalFlip | Normalize | ToLayout

_SIZINGS = (RandomResizedCrop, Resize, CenterCrop)
# The step at which a transform stands in a chain.
_STEPS: dict[type, int] = {Decode: 0, RandomResizedCrop: 1, Resize: 1, CenterCrop: 1,
                           RandomHorizontalFlip: 2, Normalize: 2, ToLayout: 2}


def compile_program(transforms: Sequence[object]) -> ImageProgram:
    """The one native program of a chain of transforms. Raises ConfigError where they cannot be one."""
    _check_order(transforms)
    program = ImageProgram()
    for transform in transforms:
        match transform:
            case Decode(exif=exif):
                program = program._replace(apply_exif=exif)
            case RandomHorizontalFlip(p=p):
                program = program._replace(flip_probability=float(p))
            case Normalize(mean=mean, std=std, dtype=dtype):
                program = program._replace(normalize=True, mean=mean, stddev=std, pixel_type=_PIXEL_TYPES[dtype])
            case ToLayout(layout=layout):
                program = program._replace(layout=_LAYOUTS[layout])
    return program._replace(**_sizing_fields([step for step in transforms if isinstance(step, _SIZINGS)]))


def _check_order(transforms: Sequence[object]) -> None:
    last: object = None
    seen: set[type] = set()
    for transform in transforms:
        if type(transform) not in _STEPS:
            raise ConfigError(f"{transform!r} is no transform of fastfeed.image. {ORDERS}")
        if type(transform) in seen:
            raise ConfigError(f"{type(transform).__name__} stands twice in one chain. {ORDERS}")
        if last is not None and _STEPS[type(transform)] < _STEPS[type(last)]:
            raise ConfigError(f"{transform!r} must come before {last!r}. {ORDERS}")
        seen.add(type(transform))
        last = transform


def _sizing_fields(sizings: Sequence[object]) -> dict[str, Any]:
    match sizings:
        case []:
            return {"sizing": _SIZING_NONE}
        case [RandomResizedCrop(size=(height, width), scale=scale, ratio=ratio)]:
            return {"sizing": _SIZING_RANDOM_RESIZED_CROP, "out_height": height, "out_width": width,
                    "scale_min": scale[0], "scale_max": scale[1], "ratio_min": ratio[0], "ratio_max": ratio[1]}
        case [Resize(size=(height, width))]:
            return {"sizing": _SIZING_RESIZE, "out_height": height, "out_width": width}
        case [Resize(size=short_side)]:
            return {"sizing": _SIZING_RESIZE_SHORT, "short_side": short_side}
        case [Resize(size=int(short_side)), CenterCrop(size=(height, width))]:
            return {"sizing": _SIZING_RESIZE_SHORT_CENTER_CROP, "short_side": short_side,
                    "out_height": height, "out_width": width}
        case [CenterCrop(size=(height, width))]:
            return {"sizing": _SIZING_CENTER_CROP, "out_height": height, "out_width": width}
        case _:
            raise ConfigError(f"{' and then '.join(map(repr, sizings))} cannot be one program. {ORDERS}")


def _set(transform: object, **fields: object) -> None:
    for name, value in fields.items():
        object.__setattr__(transform, name, value)


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, numbers.Real) and math.isfinite(value)


def _plain(values: Any) -> Any:
    """Arrays and tensors as lists, numpy's numbers as Python's: transforms are compared, hashed and shown."""
    return values.tolist() if hasattr(values, "tolist") else values


def _sides(transform: object, size: object) -> tuple[int, ...]:
    """`size` as one or two lengths."""
    size = _plain(size)
    sides = (size,) if isinstance(size, int) else tuple(map(_plain, size)) if isinstance(size, list | tuple) else ()
    name = type(transform).__name__
    if len(sides) not in (1, 2) or not all(isinstance(side, int) and not isinstance(side, bool) for side in sides):
        raise ConfigError(f"{name}({size!r}): size is an int or (height, width).")
    if not all(1 <= side <= SIDE_MAX for side in sides) or math.prod(sides) > PIXELS_MAX:
        raise ConfigError(f"{name}({size!r}): a side has 1 to {SIDE_MAX} pixels, and an image at most {PIXELS_MAX}.")
    return sides


def _height_width(transform: object, size: object) -> tuple[int, int]:
    sides = _sides(transform, size)
    if sides[0] * sides[-1] > PIXELS_MAX:
        raise ConfigError(f"{type(transform).__name__}({size!r}): more than {PIXELS_MAX} pixels.")
    return sides[0], sides[-1]


def _bounds(transform: object, name: str, bounds: Sequence[float]) -> tuple[float, float]:
    bounds = _plain(bounds)
    values = tuple(bounds) if isinstance(bounds, list | tuple) else ()
    if len(values) != 2 or not all(map(_is_number, values)) or not 0.0 <= values[0] <= values[1]:
        raise ConfigError(f"{type(transform).__name__}({name}={bounds!r}): give (least, greatest), two numbers from 0 "
                          "on in ascending order.")
    return float(values[0]), float(values[1])


def _three(transform: object, name: str, values: Sequence[float]) -> tuple[float, float, float]:
    values = _plain(values)
    three = tuple(float(value) for value in values if _is_number(value)) if isinstance(values, list | tuple) else ()
    if len(three) not in (1, 3) or len(three) != len(values):
        raise ConfigError(f"{type(transform).__name__}({name}={values!r}): give three numbers, one a channel, on the "
                          "scale from 0 to 1.")
    return three[0], three[len(three) // 2], three[-1]
