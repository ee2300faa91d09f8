"""Images: probing, checking and decoding one at a time (csrc/codec/image.hpp).

The batch path is feed.pyx; this module serves writers, checks, single samples and tests.
"""

from typing import NamedTuple

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint32_t

from fastfeed._native.bytes cimport Bytes, as_bytes, as_mutable_bytes
from fastfeed._native.image cimport (
    CImageInfo,
    CImageProgram,
    CropBox,
    ImageCounts,
    ImageDecoder,
    PixelLayout,
    PixelType,
    SampleKey,
    Shape,
    Sizing,
    c_random_flip,
    c_random_resized_crop_box,
    c_sample_bits,
    check_image_structure,
    probe_image,
)

from fastfeed.errors import ConfigError, CorruptDataError


class ImageInfo(NamedTuple):
    """What an image's own header says."""

    width: int
    height: int
    channels: int
    encoding: int
    orientation: int


class ImageProgram(NamedTuple):
    """csrc's ImageProgram; enums as their numbers."""

    decode: bool = True
    apply_exif: bool = True
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
    mean: tuple = (0.0, 0.0, 0.0)
    stddev: tuple = (1.0, 1.0, 1.0)
    pixel_type: int = 0
    layout: int = 0
    dct_scaling: bool = True


_PIXEL_TYPES = (np.uint8, np.float32, np.float16)
_FIXED_BYTES = 12  # of an image in a frame: docs/format.md, section 4.1


cdef inline Bytes _bytes(const uint8_t[::1] view) noexcept nogil:
    return as_bytes(&view[0] if view.shape[0] else NULL, <size_t>view.shape[0])


cdef CImageProgram native_program(object program) except *:
    cdef CImageProgram native
    cdef int channel
    for name, value, count in (("sizing", program.sizing, 6), ("pixel_type", program.pixel_type, 3),
                               ("layout", program.layout, 2)):
        if not 0 <= value < count:
            raise ConfigError(f"ImageProgram.{name} is {value}, must be from 0 to {count - 1}")
    native.decode = program.decode
    native.apply_exif = program.apply_exif
    native.sizing = <Sizing><uint8_t>program.sizing
    native.out_height = program.out_height
    native.out_width = program.out_width
    native.short_side = program.short_side
    native.scale_min, native.scale_max = program.scale_min, program.scale_max
    native.ratio_min, native.ratio_max = program.ratio_min, program.ratio_max
    native.flip_probability = program.flip_probability
    native.normalize = program.normalize
    for channel in range(3):
        native.mean[channel] = program.mean[channel]
        native.stddev[channel] = program.stddev[channel]
    native.type = <PixelType><uint8_t>program.pixel_type
    native.layout = <PixelLayout><uint8_t>program.layout
    native.dct_scaling = program.dct_scaling
    return native


cdef SampleKey _key(seed, epoch, position, row) except *:
    cdef SampleKey key
    key.seed, key.epoch, key.position, key.row = seed, epoch, position, row
    return key


def probe(encoded):
    """Headers only. CorruptDataError where it is no JPEG, PNG or WebP, or breaks a limit."""
    cdef const uint8_t[::1] view = encoded
    cdef CImageInfo info = probe_image(_bytes(view))
    return ImageInfo(info.width, info.height, info.channels, <uint8_t>info.encoding, info.orientation)


def check_structure(encoded):
    """CorruptDataError where the file is not whole."""
    cdef const uint8_t[::1] view = encoded
    cdef Bytes whole = _bytes(view)
    with nogil:
        check_image_structure(whole)


cdef void _write_fixed(const CImageInfo& info, uint8_t* at) noexcept nogil:
    (<uint32_t*>at)[0] = info.width
    (<uint32_t*>at)[1] = info.height
    at[8] = info.channels
    at[9] = <uint8_t>info.encoding


def probe_many(values, value_offsets, nulls):
    """The 12-byte fixed part of each image, uint8 [n * 12] (zeros for nulls). CorruptDataError names the index."""
    cdef const uint8_t[::1] bytes_view = values
    cdef const int64_t[::1] offsets = value_offsets
    cdef const uint8_t[::1] null_view
    cdef Py_ssize_t count = offsets.shape[0] - 1, i = 0
    cdef int64_t begin, end
    cdef bint has_nulls = nulls is not None
    if count < 0:
        raise ConfigError("value_offsets is empty; it has one more element than there are values")
    if has_nulls:
        null_view = nulls
        if null_view.shape[0] != count:
            raise ConfigError(f"nulls has {null_view.shape[0]} elements for {count} values")
    fixed = np.zeros(count * _FIXED_BYTES, np.uint8)
    cdef uint8_t[::1] out = fixed
    try:
        with nogil:
            while i < count:
                begin, end = offsets[i], offsets[i + 1]
                if begin < 0 or end < begin or end > bytes_view.shape[0]:
                    with gil:
                        raise ConfigError(f"value {i} lies at {begin}..{end} of {bytes_view.shape[0]} bytes")
                if not has_nulls or not null_view[i]:
                    _write_fixed(probe_image(_bytes(bytes_view[begin:end])), &out[i * 12])
                i += 1
    except CorruptDataError as error:
        raise CorruptDataError(f"image {i}: {error}") from error
    return fixed


def decode(encoded, program, seed=0, epoch=0, position=0, row=0):
    """Decode one image: [3, H, W] or [H, W, 3] of the program's type. Owns its memory. Releases the GIL."""
    if not program.decode:
        raise ConfigError("this image program keeps the encoded bytes; there is nothing to decode")
    cdef const uint8_t[::1] view = encoded
    cdef Bytes whole = _bytes(view)
    cdef CImageProgram native = native_program(program)
    cdef SampleKey key = _key(seed, epoch, position, row)
    cdef ImageDecoder decoder
    cdef ImageCounts counts
    cdef Shape shape
    with nogil:
        shape = decoder.out_shape(whole, native)
    cdef uint32_t height = shape[0], width = shape[1]
    sides = [height, width]
    pixels = np.empty([3, *sides] if program.layout == 0 else [*sides, 3], _PIXEL_TYPES[program.pixel_type])
    cdef uint8_t[::1] flat = pixels.reshape(-1).view(np.uint8)
    cdef uint8_t* at = &flat[0] if flat.shape[0] else NULL
    with nogil:
        decoder.decode(whole, native, key, as_mutable_bytes(at, <size_t>flat.shape[0]), counts)
    return pixels


def random_resized_crop_box(program, height, width, seed, epoch, position, row):
    """(top, left, height, width) that `decode` takes for this sample."""
    cdef CropBox box = c_random_resized_crop_box(
        native_program(program), _key(seed, epoch, position, row), height, width)
    return box.top, box.left, box.height, box.width


def random_flip(program, seed, epoch, position, row):
    """Whether `decode` mirrors this sample."""
    return bool(c_random_flip(native_program(program), _key(seed, epoch, position, row)))


def sample_bits(seed, epoch, position, row, index):
    """Draw number `index` of a sample: 64 uniform bits."""
    return c_sample_bits(_key(seed, epoch, position, row), index)
