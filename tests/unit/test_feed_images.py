"""Images through the native reader: the same pixels as decoding one by one, fixed and ragged, and kept as they are."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfeed._native import image
from fastfeed._native.feed import OutputSpec, Reader
from fastfeed._native.image import ImageProgram
from fastfeed.errors import ConfigError, CorruptDataError
from tests.helpers.raw_shards import IMAGE, SCALAR, Col, row_shards

SIZES = [(40, 30), (17, 50), (64, 64)]
COLUMN = Col("image", IMAGE, nullable=True)


def encoded(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def reader_of(root: Path, program: ImageProgram | None, values: list[bytes | None] | None = None) -> Reader:
    values = [*(encoded(*size) for size in SIZES), None] if values is None else values
    return Reader(row_shards(root, [COLUMN], [[values]]).snapshot(), [OutputSpec(0, image=program)])


@pytest.mark.parametrize("program", [
    ImageProgram(sizing=1, out_height=8, out_width=9, flip_probability=0.5),
    ImageProgram(sizing=2, out_height=12, out_width=5, pixel_type=1, normalize=True, stddev=(0.5, 0.2, 0.1), layout=1),
])
def test_fixed_shapes_equal_decoding_one_by_one(tmp_path: Path, program: ImageProgram) -> None:
    rows, positions = np.array([2, 3, 0, 1], dtype=np.int64), np.array([7, 8, 9, 10], dtype=np.int64)
    batch = reader_of(tmp_path, program).take(rows, positions, seed=3, epoch=4)
    for at, row in enumerate(rows.tolist()):
        if row == 3:
            assert batch.nulls[0][at]
            assert not batch.columns[0][at].any()
            continue
        alone = image.decode(encoded(*SIZES[row]), program, 3, 4, int(positions[at]), row)
        np.testing.assert_array_equal(batch.columns[0][at], alone)


@pytest.mark.parametrize("layout", [0, 1])
def test_images_without_a_size_are_ragged_with_shapes(tmp_path: Path, layout: int) -> None:
    program = ImageProgram(layout=layout)
    got = reader_of(tmp_path, program).take(np.arange(4, dtype=np.int64)).columns[0]
    for row, size in enumerate(SIZES):
        alone = image.decode(encoded(*size), program)
        assert tuple(got.shapes[row]) == alone.shape
        np.testing.assert_array_equal(got.values[got.offsets[row] : got.offsets[row + 1]], alone.reshape(-1))
    assert got.offsets[4] == got.offsets[3]


def test_without_a_program_the_file_is_the_value(tmp_path: Path) -> None:
    reader = reader_of(tmp_path, None)
    got = reader.take(np.array([1], dtype=np.int64)).columns[0]
    assert got.values.tobytes() == encoded(*SIZES[1])
    assert reader.sample(1)[0] == encoded(*SIZES[1])
    assert reader.sample(3)[0] is None


def test_a_broken_image_names_column_and_row(tmp_path: Path) -> None:
    program = ImageProgram(sizing=2, out_height=4, out_width=4)
    with pytest.raises(CorruptDataError, match=r"row 1 of the dataset\).*column 'image'"):
        reader_of(tmp_path, program, [encoded(5, 5), b"no image"]).take(np.array([0, 1], dtype=np.int64))


def test_a_program_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sizing"):
        reader_of(tmp_path, ImageProgram(sizing=9))
    with pytest.raises(ConfigError, match="0 x 0"):
        reader_of(tmp_path, ImageProgram(sizing=2))
    with pytest.raises(ConfigError, match="not an image"):
        Reader(row_shards(tmp_path, [Col("n", SCALAR, "int64")], [[[1]]]).snapshot(),
               [OutputSpec(0, dtype="int64", image=ImageProgram())])
