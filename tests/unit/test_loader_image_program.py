"""fastfeed.image: which chains become a program, and what the others are told."""

import pickle

import numpy as np
import pytest

from fastfeed.errors import ConfigError
from fastfeed.loader import image
from fastfeed.loader.image import (
    CenterCrop,
    Decode,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToLayout,
    compile_program,
)


def test_a_training_chain_becomes_one_program():
    program = compile_program([Decode(exif=False), RandomResizedCrop(224), RandomHorizontalFlip(),
                               Normalize((0.5, 0.4, 0.3), (0.2, 0.2, 0.1), dtype="float16"), ToLayout("HWC")])
    assert (program.sizing, program.out_height, program.out_width) == (1, 224, 224)
    assert (program.scale_min, program.scale_max) == (0.08, 1.0)
    assert (program.ratio_min, program.ratio_max) == (3 / 4, 4 / 3)
    assert program.flip_probability == 0.5
    assert program.normalize
    assert program.mean == (0.5, 0.4, 0.3)
    assert program.stddev == (0.2, 0.2, 0.1)
    assert (program.pixel_type, program.layout, program.apply_exif) == (2, 1, False)


@pytest.mark.parametrize(("chain", "sizing", "height", "width", "short_side"), [
    ([], 0, 0, 0, 0),
    ([Resize(256)], 3, 0, 0, 256),
    ([Resize([256])], 3, 0, 0, 256),
    ([Resize((100, 200))], 2, 100, 200, 0),
    ([CenterCrop(64)], 5, 64, 64, 0),
    ([CenterCrop((64, 32))], 5, 64, 32, 0),
    ([Resize(256), CenterCrop(224)], 4, 224, 224, 256),
    ([RandomResizedCrop((10, 20))], 1, 10, 20, 0),
])
def test_each_sizing_has_its_fields(chain, sizing, height, width, short_side):
    program = compile_program(chain)
    expected = (sizing, height, width, short_side)
    assert (program.sizing, program.out_height, program.out_width, program.short_side) == expected


@pytest.mark.parametrize("chain", [
    [RandomHorizontalFlip(), Resize(5)],
    [CenterCrop(5), Resize(5)],
    [Resize((5, 5)), CenterCrop(5)],
    [RandomResizedCrop(5), CenterCrop(5)],
    [Resize(5), Resize(5)],
    [Resize(5), Decode()],
    [ToLayout("CHW"), ToLayout("HWC")],
    [str],
])
def test_a_chain_that_cannot_be_one_program_is_told_the_supported_ones(chain):
    with pytest.raises(ConfigError, match="Supported chains"):
        compile_program(chain)


@pytest.mark.parametrize(("make", "match"), [
    (lambda: RandomResizedCrop(0), "1 to 65535"),
    (lambda: RandomResizedCrop("224"), "int or"),
    (lambda: RandomResizedCrop(True), "int or"),
    (lambda: RandomResizedCrop(65_535), "pixels"),
    (lambda: RandomResizedCrop((65_535, 65_535)), "at most"),
    (lambda: RandomResizedCrop(5, scale=(0.9, 0.1)), "scale"),
    (lambda: RandomResizedCrop(5, scale=(0, 0)), "more than 0"),
    (lambda: RandomResizedCrop(5, ratio=(0, 1)), "more than 0"),
    (lambda: RandomResizedCrop(5, ratio=(float("nan"), 1)), "ratio"),
    (lambda: Resize((1, 2, 3)), "int or"),
    (lambda: CenterCrop(-1), "1 to 65535"),
    (lambda: RandomHorizontalFlip(1.5), "probability"),
    (lambda: Normalize((0.5,), (0.0,)), "zero"),
    (lambda: Normalize((0.5, 0.5), (1.0,)), "three numbers"),
    (lambda: Normalize(0.5, (1.0,)), "three numbers"),
    (lambda: Normalize((0.5,), (1.0,), dtype="float64"), "float16"),
    (lambda: ToLayout("NCHW"), "HWC"),
])
def test_a_wrong_argument_names_its_value_and_what_is_right(make, match):
    with pytest.raises(ConfigError, match=match):
        make()


def test_numbers_may_be_those_of_numpy():
    mean = np.array([0.5, 0.25, 0.125])
    assert Normalize(mean, np.float32([1, 1, 2])) == Normalize((0.5, 0.25, 0.125), (1.0, 1.0, 2.0))
    assert Normalize(list(mean), [1, 1, 2]) == Normalize((0.5, 0.25, 0.125), (1.0, 1.0, 2.0))
    assert Resize(np.int64(8)) == Resize(8)
    assert repr(CenterCrop((np.int64(8), 9))) == "CenterCrop(size=(8, 9))"
    assert RandomResizedCrop(8, scale=np.array([0.5, 1])) == RandomResizedCrop(8, scale=(0.5, 1.0))


def test_transforms_and_programs_are_values():
    chain = [Resize([256]), CenterCrop(224), Normalize([0.5], [0.5])]
    assert pickle.loads(pickle.dumps(chain)) == chain
    program = compile_program(chain)
    assert pickle.loads(pickle.dumps(program)) == program
    assert all(isinstance(step, image.TRANSFORMS) for step in chain)
    assert program.mean == (0.5, 0.5, 0.5)
