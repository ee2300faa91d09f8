"""Decoding: against Pillow and torch on photographs, and the fast path against a full decode, bit for bit."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from fastfeed._native import image
from fastfeed.errors import ConfigError
from tests.helpers import pictures
from tests.helpers.photographs import encode
from tests.helpers.pictures import ENCODINGS, crop_and_resize, difference, photographs, pillow, with_orientation

ROWS = range(6)
TOLERANCE = 1.5  # levels
TOLERANCE_DCT_SCALED = 4.0


def crop_program(height=224, width=224, **options):
    return image.ImageProgram(sizing=1, out_height=height, out_width=width, **options)


def box_of(program, pixels, row):
    return image.random_resized_crop_box(program, pixels.shape[0], pixels.shape[1], 0, 0, 0, row)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("photo", ["chelsea", "odd", "small"])
def test_a_full_decode_has_pillows_pixels(name, photo):
    encoded = encode(photographs()[photo], **ENCODINGS[name])
    assert np.array_equal(image.decode(encoded, image.ImageProgram(layout=1)), np.asarray(pillow(encoded)))


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("photo", ["coffee", "odd"])
def test_random_resized_crops_agree_with_pillow(name, photo):
    encoded = encode(photographs()[photo], **ENCODINGS[name])
    program = crop_program(160, 128, dct_scaling=False)
    for row in ROWS:
        expected = crop_and_resize(pillow(encoded), box_of(program, photographs()[photo], row), (160, 128))
        assert difference(image.decode(encoded, program, row=row), expected) <= 0.5


def test_random_resized_crops_agree_with_torch():
    encoded = encode(photographs()["chelsea"], **ENCODINGS["jpeg-420"])
    whole = torch.from_numpy(np.asarray(pillow(encoded)).copy()).permute(2, 0, 1)[None].float()
    program = crop_program()
    for row in ROWS:
        top, left, height, width = box_of(program, photographs()["chelsea"], row)
        part = whole[:, :, top:top + height, left:left + width]
        expected = torch.nn.functional.interpolate(part, (224, 224), mode="bilinear", antialias=True)[0].numpy()
        assert difference(image.decode(encoded, program, row=row), expected) <= TOLERANCE


def test_crops_at_reduced_scale_stay_close_to_pillow():
    pixels = photographs()["astronaut"]
    encoded = encode(pixels, **ENCODINGS["jpeg-420"])
    for size in (150, 100, 60, 30):
        program = crop_program(size, size, scale_min=0.5)
        for row in ROWS:
            expected = crop_and_resize(pillow(encoded), box_of(program, pixels, row), (size, size))
            assert difference(image.decode(encoded, program, row=row), expected) <= TOLERANCE_DCT_SCALED


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("photo", ["odd", "small"])
@pytest.mark.parametrize("sizing", ["crop", "resize", "center"])
def test_decoding_a_region_gives_the_bits_of_a_full_decode(name, photo, sizing):
    """The oracle: the fully decoded pixels as a PNG, which has neither blocks nor upsampling."""
    encoded = encode(photographs()[photo], **ENCODINGS[name])
    plain = encode(pillow(encoded), format="PNG", compress_level=1)
    program = {
        "crop": crop_program(20, 30, dct_scaling=False, flip_probability=0.5, scale_min=0.01),
        "resize": image.ImageProgram(sizing=4, short_side=40, out_height=23, out_width=19, dct_scaling=False),
        "center": image.ImageProgram(sizing=5, out_height=31, out_width=17),
    }[sizing]
    for row in range(30 if sizing == "crop" else 1):
        assert np.array_equal(image.decode(encoded, program, row=row), image.decode(plain, program, row=row))


@pytest.mark.parametrize(("short_side", "photo"), [(64, "odd"), (200, "small"), (100, "chelsea")])
def test_resize_keeps_the_aspect_with_torchvisions_rounding(short_side, photo):
    pixels = photographs()[photo]
    height, width = pixels.shape[:2]
    assert height < width
    size = (short_side, int(short_side * width / height))
    got = image.decode(encode(pixels, format="PNG"), image.ImageProgram(sizing=3, short_side=short_side))
    assert got.shape == (3, *size)
    assert difference(got, crop_and_resize(Image.fromarray(pixels), (0, 0, height, width), size)) <= 0.5


def torchvision_center_crop(pixels, height, width):
    """torchvision.transforms.v2.functional.center_crop, in numpy: [H, W, 3]."""
    have_height, have_width = pixels.shape[:2]
    if width > have_width or height > have_height:
        left, right = max(width - have_width, 0) // 2, (max(width - have_width, -1) + 1) // 2
        top, bottom = max(height - have_height, 0) // 2, (max(height - have_height, -1) + 1) // 2
        pixels = np.pad(pixels, ((top, bottom), (left, right), (0, 0)))
        have_height, have_width = pixels.shape[:2]
    top, left = round((have_height - height) / 2.0), round((have_width - width) / 2.0)
    return pixels[top:top + height, left:left + width]


@pytest.mark.parametrize("size", [(10, 10), (33, 51), (32, 50), (31, 48), (40, 20), (20, 60), (41, 60), (36, 53)])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_center_crops_have_torchvisions_offsets_and_padding(size, flip):
    pixels = photographs()["small"]
    program = image.ImageProgram(sizing=5, out_height=size[0], out_width=size[1], layout=1, flip_probability=flip)
    expected = torchvision_center_crop(pixels, *size)
    got = image.decode(encode(pixels, format="PNG"), program)
    assert np.array_equal(got, expected[:, ::-1] if flip else expected)


def test_resize_then_center_crop_is_the_window_of_the_whole_resize():
    encoded = encode(photographs()["chelsea"], **ENCODINGS["jpeg-420"])
    whole = image.decode(encoded, image.ImageProgram(sizing=3, short_side=128, layout=1, dct_scaling=False))
    for size in ((112, 112), (128, 40), (140, 120), (300, 300)):
        program = image.ImageProgram(sizing=4, short_side=128, out_height=size[0], out_width=size[1], layout=1,
                                     dct_scaling=False)
        assert np.array_equal(image.decode(encoded, program), torchvision_center_crop(whole, *size))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation_is_applied_and_can_be_turned_off(orientation, order):
    encoded = with_orientation(encode(photographs()["small"], **ENCODINGS["jpeg-444"]), orientation, order)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")
    assert np.array_equal(image.decode(encoded, image.ImageProgram(layout=1)), np.asarray(turned))
    as_stored = image.decode(encoded, image.ImageProgram(layout=1, apply_exif=False))
    assert np.array_equal(as_stored, np.asarray(Image.open(io.BytesIO(encoded))))
    assert image.probe(encoded).orientation == orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_crops_are_taken_in_the_oriented_image(orientation):
    encoded = with_orientation(encode(photographs()["odd"], **ENCODINGS["jpeg-420"]), orientation)
    plain = encode(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB"), format="PNG")
    for program in (crop_program(37, 51, dct_scaling=False, flip_probability=0.5),
                    image.ImageProgram(sizing=5, out_height=400, out_width=100, flip_probability=1.0)):
        for row in ROWS:
            got, expected = image.decode(encoded, program, row=row), image.decode(plain, program, row=row)
            # Transposed images are resized along the other axis first, which rounds differently.
            assert np.abs(got.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("mode", "options"), [
    ("L", {"format": "JPEG"}), ("CMYK", {"format": "JPEG"}), ("L", {"format": "PNG"}), ("LA", {"format": "PNG"}),
    ("1", {"format": "PNG"}), ("P", {"format": "PNG"}), ("RGBA", {"format": "PNG"}),
    ("RGBA", {"format": "WEBP", "exact": True}),
])
def test_every_pixel_format_becomes_rgb_as_pillow_converts_it(mode, options):
    encoded = encode(Image.fromarray(photographs()["odd"]).convert(mode), **options)
    assert np.array_equal(image.decode(encoded, image.ImageProgram(layout=1)), np.asarray(pillow(encoded)))
    program = crop_program(50, 40, dct_scaling=False)
    plain = encode(pillow(encoded), format="PNG")
    assert np.array_equal(image.decode(encoded, program, row=3), image.decode(plain, program, row=3))


def test_a_transparent_palette_drops_its_alpha():
    indexed = Image.fromarray(photographs()["small"]).convert("P")
    encoded = encode(indexed, format="PNG", transparency=bytes(range(256)))
    assert image.probe(encoded).channels == 4
    assert np.array_equal(image.decode(encoded, image.ImageProgram(layout=1)), np.asarray(indexed.convert("RGB")))


def test_sixteen_bits_are_divided_by_257_and_rounded():
    levels = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    encoded = encode(Image.fromarray(levels), format="PNG")
    expected = np.round(levels / 257).astype(np.uint8)
    assert np.array_equal(image.decode(encoded, image.ImageProgram()), np.stack([expected] * 3))


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize(("pixel_type", "dtype"), [(1, np.float32), (2, np.float16)])
def test_float_outputs_are_float32_arithmetic_to_the_last_bit(layout, pixel_type, dtype):
    encoded = encode(photographs()["small"], format="PNG")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    raw = image.decode(encoded, image.ImageProgram(layout=layout)).astype(np.float32)
    program = image.ImageProgram(layout=layout, pixel_type=pixel_type, normalize=True, mean=mean, stddev=std)
    shape = (3, 1, 1) if layout == 0 else (3,)
    expected = (raw / np.float32(255) - np.float32(mean).reshape(shape)) / np.float32(std).reshape(shape)
    assert np.array_equal(image.decode(encoded, program), expected.astype(dtype))
    program = image.ImageProgram(layout=layout, pixel_type=pixel_type)
    assert np.array_equal(image.decode(encoded, program), raw.astype(dtype))


def test_flat_areas_stay_flat_at_every_scale():
    encoded = encode(np.full((300, 333, 3), 201, np.uint8), format="PNG")
    for size in (1, 7, 100, 299, 301, 900):
        assert (image.decode(encoded, image.ImageProgram(sizing=2, out_height=size, out_width=size + 1)) == 201).all()


def test_one_pixel_can_be_cropped_and_enlarged():
    encoded = encode(np.array([[[1, 2, 3]]], np.uint8), format="PNG")
    for row in ROWS:
        got = image.decode(encoded, crop_program(5, 9), row=row)
        assert np.array_equal(got, np.broadcast_to(np.array([1, 2, 3])[:, None, None], (3, 5, 9)))


def test_programs_that_make_no_sense_are_refused():
    encoded = encode(photographs()["small"], format="PNG")
    with pytest.raises(ConfigError, match="nothing to decode"):
        image.decode(encoded, image.ImageProgram(decode=False))
    with pytest.raises(ConfigError, match="zero"):
        image.decode(encoded, image.ImageProgram(sizing=2))


def test_the_oracle_helper_agrees_with_the_native_draws():
    program = crop_program()
    key = (1, 2, 3, 4)
    expected = pictures.random_resized_crop_box(key, 375, 500, (0.08, 1.0), (3 / 4, 4 / 3))
    assert image.random_resized_crop_box(program, 375, 500, *key) == expected
