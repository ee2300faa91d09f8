"""Broken and hostile image files: refused with a CorruptDataError that says what, before memory is taken for them."""

import resource
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fastfeed._native import image
from fastfeed.errors import ConfigError, CorruptDataError
from tests.helpers.photographs import encode
from tests.helpers.pictures import ENCODINGS, photographs, with_orientation
from tests.helpers.png import interlaced_png, png_chunk

WHOLE = image.ImageProgram()
SMALL_CROP_AT_THE_TOP = image.ImageProgram(sizing=1, out_height=4, out_width=4, scale_min=0.01, scale_max=0.01)


@pytest.fixture(scope="module", params=ENCODINGS)
def encoded(request):
    return encode(photographs()["small"], **ENCODINGS[request.param])


def test_a_whole_file_passes_and_so_does_one_with_bytes_after_its_end(encoded):
    image.check_structure(encoded)
    image.check_structure(encoded + b"\0\0trailing")
    assert np.array_equal(image.decode(encoded + b"\0\0trailing", WHOLE), image.decode(encoded, WHOLE))


def test_a_truncated_file_is_found_wherever_it_ends(encoded):
    for length in {*range(0, len(encoded), max(1, len(encoded) // 60)), len(encoded) - 1, len(encoded) - 2}:
        with pytest.raises(CorruptDataError):
            image.check_structure(encoded[:length])


def test_a_truncated_file_does_not_decode(encoded):
    for length in range(0, len(encoded) - 20, max(1, len(encoded) // 40)):
        with pytest.raises(CorruptDataError):
            image.decode(encoded[:length], WHOLE)


def test_a_truncated_jpeg_fails_for_every_crop_even_above_the_damage():
    encoded = encode(photographs()["odd"], **ENCODINGS["jpeg-420"])
    image.decode(encoded, SMALL_CROP_AT_THE_TOP)
    with pytest.raises(CorruptDataError, match="truncated"):
        image.decode(encoded[: len(encoded) * 3 // 4], SMALL_CROP_AT_THE_TOP)


def test_a_flipped_bit_in_a_png_is_found():
    encoded = bytearray(encode(photographs()["small"], format="PNG"))
    encoded[len(encoded) // 2] ^= 4
    with pytest.raises(CorruptDataError, match="crc"):
        image.check_structure(bytes(encoded))
    with pytest.raises(CorruptDataError):
        image.decode(bytes(encoded), WHOLE)


def test_a_damaged_jpeg_decodes_with_warnings_as_everywhere_or_is_refused():
    """Bits flipped within the entropy-coded data: libjpeg goes on, and so do Pillow and torchvision."""
    encoded = bytearray(encode(photographs()["small"], **ENCODINGS["jpeg-420"]))
    encoded[len(encoded) * 2 // 3] ^= 0x10
    assert image.decode(bytes(encoded), WHOLE).shape == (3, 33, 51)


def png_header(width, height):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")


def jpeg_header(width, height, components=3, precision=8):
    """The start of a JPEG of that size, up to its scan header."""
    parts = b"".join(bytes([i + 1, 0x11, 0]) for i in range(components))
    frame = struct.pack(">BHHB", precision, height, width, components) + parts
    return (b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame
            + b"\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00" + b"\xff\xd9")


@pytest.mark.parametrize(("bomb", "match"), [
    (png_header(65_535, 65_535), "limit"),
    (png_header(65_536, 1), "limit"),
    (png_header(0, 5), "size of 0 x 5"),
    (jpeg_header(65_535, 65_535), "limit"),
    (jpeg_header(0, 5), "size of 0 x 5"),
    (jpeg_header(5, 5, components=2), "2 components"),
    (jpeg_header(5, 5, precision=12), "12 bits"),
    (b"", "0 bytes"),
    (b"GIF89a\x01\x02", "47494638"),
    (b"RIFF\x04\0\0\0WEBP", "WebP"),
])
def test_headers_that_break_a_limit_are_refused_with_their_values(bomb, match):
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for use in (image.probe, image.check_structure, lambda file: image.decode(file, WHOLE)):
        with pytest.raises(CorruptDataError, match=match):
            use(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 32 * 1024


def test_a_jpeg_of_a_thousand_scans_is_refused():
    encoded = encode(photographs()["small"], **ENCODINGS["jpeg-progressive"])
    scan = encoded.rindex(b"\xff\xda")
    with pytest.raises(CorruptDataError, match="scans"):
        image.decode(encoded[:scan] + encoded[scan:-2] * 1000 + b"\xff\xd9", WHOLE)


def test_a_png_cut_within_an_interlaced_image_is_refused():
    whole = interlaced_png(np.ascontiguousarray(photographs()["small"]))
    assert np.array_equal(image.decode(whole, WHOLE).transpose(1, 2, 0), photographs()["small"])
    with pytest.raises(CorruptDataError, match="PNG"):
        image.decode(whole[:-200], WHOLE)


def test_an_animation_is_refused():
    second = Image.fromarray(photographs()["small"][::-1])
    encoded = encode(photographs()["small"], format="WEBP", save_all=True, append_images=[second])
    with pytest.raises(CorruptDataError, match="animation"):
        image.probe(encoded)


def test_an_image_that_would_grow_beyond_the_limit_is_refused():
    thin = encode(np.zeros((1, 3000, 3), np.uint8), format="PNG")
    with pytest.raises(CorruptDataError, match="limit"):
        image.decode(thin, image.ImageProgram(sizing=3, short_side=4000))
    thinner = encode(np.zeros((1, 60_000, 3), np.uint8), format="PNG")
    with pytest.raises(CorruptDataError, match="cannot be resized"):
        image.decode(thinner, image.ImageProgram(sizing=4, short_side=60_000, out_height=2, out_width=2))


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_impossible_orientation_is_none(orientation):
    assert image.probe(with_orientation(encode(photographs()["small"], format="JPEG"), orientation)).orientation == 1


def test_probing_many_writes_the_fixed_parts_and_names_the_bad_one():
    files = [encode(photographs()["small"], format="JPEG"), b"", encode(photographs()["odd"], format="PNG")]
    offsets = np.cumsum([0] + [len(file) for file in files])
    joined = np.frombuffer(b"".join(files), np.uint8)
    fixed = image.probe_many(joined, offsets, np.array([0, 1, 0], np.uint8))
    first, last = struct.pack("<IIBBH", 51, 33, 3, 1, 0), struct.pack("<IIBBH", 313, 253, 3, 2, 0)
    assert fixed.tobytes() == first + bytes(12) + last
    with pytest.raises(CorruptDataError, match="image 1: no JPEG"):
        image.probe_many(joined, offsets, None)
    with pytest.raises(ConfigError, match="nulls"):
        image.probe_many(joined, offsets, np.zeros(2, np.uint8))
    with pytest.raises(ConfigError, match="empty"):
        image.probe_many(joined, offsets[:0], None)
    with pytest.raises(ConfigError, match="value 2 lies at"):
        image.probe_many(joined[:-1], offsets, np.array([0, 1, 0], np.uint8))
    assert image.probe_many(b"", np.zeros(1, np.int64), None).size == 0
