# csrc/codec/image.hpp, and the one way from a Python ImageProgram to the native one.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp cimport bool as cbool

from fastfeed._native.bytes cimport Bytes, MutableBytes
from fastfeed._native.errors cimport raise_native_error


cdef extern from "codec/image.hpp" namespace "ff" nogil:
    cdef enum class ImageEncoding(uint8_t):
        pass
    cdef enum class Sizing(uint8_t):
        pass
    cdef enum class PixelType(uint8_t):
        u8
    cdef enum class PixelLayout(uint8_t):
        chw

    cdef cppclass CImageInfo "ff::ImageInfo":
        uint32_t width, height
        uint8_t channels
        ImageEncoding encoding
        uint8_t orientation

    cdef cppclass Floats3 "std::array<float, 3>":
        float& operator[](size_t)
    cdef cppclass Shape "std::array<std::uint32_t, 2>":
        uint32_t& operator[](size_t)

    cdef cppclass CImageProgram "ff::ImageProgram":
        cbool decode, apply_exif
        Sizing sizing
        uint32_t out_height, out_width, short_side
        double scale_min, scale_max, ratio_min, ratio_max, flip_probability
        cbool normalize
        Floats3 mean, stddev
        PixelType type
        PixelLayout layout
        cbool dct_scaling
        cbool fixed_shape()
        size_t pixel_bytes()

    cdef cppclass SampleKey:
        uint64_t seed, epoch, position, row
    cdef cppclass CropBox:
        uint32_t top, left, height, width
    cdef cppclass ImageCounts:
        uint64_t decoded, exif_rotated, gray, palette, alpha_dropped, cmyk, sixteen_bit
        uint64_t progressive, dct_scaled, warnings

    CImageInfo probe_image(Bytes encoded) except +raise_native_error
    void check_image_structure(Bytes encoded) except +raise_native_error
    uint64_t c_sample_bits "ff::sample_bits"(const SampleKey& key, uint32_t index) noexcept
    CropBox c_random_resized_crop_box "ff::random_resized_crop_box"(
        const CImageProgram& program, const SampleKey& key, uint32_t height, uint32_t width) noexcept
    cbool c_random_flip "ff::random_flip"(const CImageProgram& program, const SampleKey& key) noexcept

    cdef cppclass ImageDecoder:
        ImageDecoder() except +raise_native_error
        Shape out_shape(Bytes encoded, const CImageProgram& program) except +raise_native_error
        void decode(Bytes encoded, const CImageProgram& program, const SampleKey& key, MutableBytes out,
                    ImageCounts& counts) except +raise_native_error


# ConfigError where an enum's number is none of its values; who makes programs (loader/image.py) checks the rest.
cdef CImageProgram native_program(object program) except *
