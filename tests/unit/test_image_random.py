"""Random crops and flips: functions of their key, drawn as the documentation says, distributed as torchvision's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastfeed._native import image
from tests.helpers import pictures

KEYS = st.tuples(*[st.integers(0, 2**64 - 1)] * 4)
DRAWS = 4000


@given(KEYS, st.integers(0, 2**32 - 1))
def test_every_draw_is_the_documented_one(key, index):
    assert image.sample_bits(*key, index) == pictures.sample_bits(*key, index)


@given(KEYS, st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([(0.08, 1.0), (0.5, 0.5), (0.0, 0.01)]),
       st.sampled_from([(3 / 4, 4 / 3), (1.0, 1.0), (0.1, 0.2), (5.0, 9.0)]))
@settings(max_examples=300)
def test_every_box_is_that_of_the_plain_oracle(key, height, width, scale, ratio):
    program = image.ImageProgram(sizing=1, out_height=8, out_width=8, scale_min=scale[0], scale_max=scale[1],
                                 ratio_min=ratio[0], ratio_max=ratio[1])
    top, left, h, w = image.random_resized_crop_box(program, height, width, *key)
    oracle = pictures.random_resized_crop_box(key, height, width, scale, ratio)
    # The fallback of an image one pixel thin may round to nothing in torchvision; here a side has at least one pixel.
    assert (h, w) == (max(oracle[2], 1), max(oracle[3], 1))
    if min(oracle[2:]) > 0:
        assert (top, left) == oracle[:2]
    assert top + h <= height
    assert left + w <= width


def uniform_distance(values: np.ndarray) -> float:
    """Kolmogorov's distance of `values` from the uniform distribution on [0, 1)."""
    values = np.sort(values)
    steps = np.arange(len(values) + 1) / len(values)
    return float(max(np.abs(values - steps[:-1]).max(), np.abs(values - steps[1:]).max()))


# Above this distance a uniform sample of DRAWS values would be once in 10^5 (the draws are fixed, so no test is flaky).
LIMIT = 2.5 / DRAWS**0.5


def test_areas_ratios_and_places_of_crops_are_distributed_as_published():
    """In a large square, where no attempt is refused as long as the area is at most half."""
    side = 10_000
    program = image.ImageProgram(sizing=1, out_height=8, out_width=8, scale_min=0.1, scale_max=0.5)
    boxes = np.array([image.random_resized_crop_box(program, side, side, 7, 1, i, i * 3) for i in range(DRAWS)], float)
    top, left, height, width = boxes.T
    assert uniform_distance((height * width / side**2 - 0.1) / 0.4) < LIMIT
    log_ratio = np.log(width / height)
    assert uniform_distance((log_ratio + np.log(4 / 3)) / (2 * np.log(4 / 3))) < LIMIT
    assert uniform_distance(top / (side - height + 1)) < LIMIT
    assert uniform_distance(left / (side - width + 1)) < LIMIT
    assert abs(np.corrcoef([top / (side - height), left / (side - width), height * width, log_ratio])
               - np.eye(4)).max() < LIMIT * 1.5


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_flips_come_as_often_as_asked_and_independently_of_the_crop(p):
    program = image.ImageProgram(flip_probability=p)
    flips = np.array([image.random_flip(program, 0, 0, i, i) for i in range(DRAWS)])
    assert abs(flips.mean() - p) < LIMIT
    assert [pictures.sample_unit(0, 0, i, i, 0) < p for i in range(200)] == flips[:200].tolist()


def test_each_part_of_the_key_changes_the_box():
    program = image.ImageProgram(sizing=1, out_height=8, out_width=8)
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    assert len({image.random_resized_crop_box(program, 3000, 4000, *key) for key in keys}) == len(keys)
