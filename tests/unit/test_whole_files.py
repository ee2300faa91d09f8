"""Files of a batch in one call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from fastfeed.errors import ConfigError
from fastfeed.format.files import read_whole_files

CONTENTS = [b"abc", b"", b"x" * 100_000, b"end"]


@pytest.fixture
def paths(tmp_path: Path) -> list[bytes]:
    files = [tmp_path / str(number) for number in range(len(CONTENTS))]
    for file, content in zip(files, CONTENTS, strict=True):
        file.write_bytes(content)
    return [bytes(file) for file in files]


def offsets_of(sizes: list[int]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *sizes], dtype=np.int64)


def test_files_lie_one_after_the_other(paths: list[bytes]) -> None:
    offsets = offsets_of([len(content) for content in CONTENTS])
    buffer = bytearray(int(offsets[-1]) + 1)
    assert read_whole_files(paths, offsets, buffer) is None
    assert bytes(buffer[:-1]) == b"".join(CONTENTS)


@pytest.mark.parametrize(("expected", "found"), [(4, 3), (2, 3), (1, 2), (0, 1)])
def test_the_first_file_of_another_length_is_named_with_what_was_found(
    paths: list[bytes], expected: int, found: int
) -> None:
    """What is longer counts as one byte more."""
    offsets = offsets_of([3, 0, 100_000, expected])
    assert read_whole_files(paths, offsets, bytearray(int(offsets[-1]) + 1)) == (3, found)


def test_a_file_that_is_gone_is_an_error_of_the_system_with_its_name(paths: list[bytes], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        read_whole_files([paths[0], bytes(tmp_path / "gone")], offsets_of([3, 3]), bytearray(7))
    assert caught.value.filename == str(tmp_path / "gone")


def test_a_folder_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_whole_files([bytes(tmp_path)], offsets_of([3]), bytearray(4))


@pytest.mark.parametrize(
    ("offsets", "room", "says"),
    [
        ([0, 3], 8, "one more"),
        ([0, 3, 2, 2, 2], 8, "below"),
        ([-1, 3, 3, 3, 3], 8, "one more"),
        ([0, 3, 3, 3, 3], 3, "3 bytes"),
    ],
)
def test_offsets_and_buffer_are_checked(paths: list[bytes], offsets: list[int], room: int, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_whole_files(paths, np.array(offsets, np.int64), bytearray(room))


def test_no_files_at_all_is_fine() -> None:
    assert read_whole_files([], np.zeros(1, np.int64), bytearray(1)) is None
