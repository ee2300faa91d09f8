"""`verify` finds a flipped bit in every byte of small datasets of every layout, and says where; and files that are
missing, shorter, longer, exchanged, of another dataset, or too many.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fastfeed.dataset.delete import delete
from fastfeed.dataset.verify import DatasetFinding, Severity, findings_of, read_shards, survey
from fastfeed.format.layout import HEADER_BYTES, PAGE_BYTES
from fastfeed.storage.local import LocalStorage
from tests.helpers.small_datasets import LAYOUTS, NAMES, SHARDS, document, files_of, write_small

FLIP_SEED = 3


@pytest.fixture(params=NAMES)
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_small(tmp_path / request.param, request.param)


def verify(place: Path) -> list[DatasetFinding]:
    found = survey(LocalStorage(place))
    return [*found.findings, *(each for _, findings in read_shards(found, 1) for each in findings)]


def errors(place: Path) -> list[DatasetFinding]:
    return [each for each in verify(place) if each.severity is Severity.ERROR]


@contextmanager
def flipping(path: Path) -> Iterator[Callable[[int, int], None]]:
    """A function that flips a bit of the file. Flipping it again restores it."""
    descriptor = os.open(path, os.O_RDWR)

    def flip(at: int, bit: int) -> None:
        (byte,) = os.pread(descriptor, 1, at)
        os.pwrite(descriptor, bytes([byte ^ 1 << bit]), at)

    try:
        yield flip
    finally:
        os.close(descriptor)


def every_byte(path: Path, find: Callable[[], list[DatasetFinding]]) -> Iterator[tuple[int, list[DatasetFinding]]]:
    """What `find` says with one random bit of each byte flipped, one byte after the other; nothing before and after."""
    bits = random.Random(FLIP_SEED)
    assert find() == []
    with flipping(path) as flip:
        for at in range(path.stat().st_size):
            bit = bits.randrange(8)
            flip(at, bit)
            yield at, find()
            flip(at, bit)
    assert find() == []


def test_a_flipped_bit_in_any_byte_of_a_manifest_or_an_index_is_found(dataset: Path) -> None:
    storage = LocalStorage(dataset)
    newest = max(int(path.stem) for path in (dataset / "_feed" / "manifests").iterdir())
    for path in files_of(dataset / "_feed"):
        name = path.relative_to(dataset).as_posix()
        if dataset.name == "deleted" and ("index" in name or name.endswith("1.arrow")):
            continue  # those of `kinds`
        snapshot = int(path.stem) if "manifests" in name else newest
        for at, found in every_byte(path, lambda number=snapshot: survey(storage, number).findings):  # type: ignore[misc]
            assert any(each.file == name and each.severity is Severity.ERROR for each in found), (name, at)


@pytest.mark.parametrize("dataset", LAYOUTS, indirect=True)
def test_a_flipped_bit_in_any_byte_of_a_shard_is_found_with_its_shard_and_row(dataset: Path) -> None:
    surveyed = survey(LocalStorage(dataset))
    assert len(surveyed.shards) == SHARDS
    for entry, fingerprint in zip(surveyed.shards, surveyed.schema_fingerprints, strict=True):
        row_of = row_finder(entry.row_index, entry.rows, entry.payload_end, entry.tokens)
        for at, found in every_byte(entry.path, lambda e=entry, f=fingerprint: findings_of(e, f)):  # type: ignore[misc]
            where = (entry.path.name, at)
            assert found, where
            assert all(each.file == str(entry.path) for each in found), where
            assert any(each.shard == entry.uid.hex() for each in found), where
            row = row_of(at)
            assert row is None or any(each.row == row for each in found), where
        if entry.number == 0:
            break  # one of the alike is enough


def row_finder(
    index: np.ndarray | None, rows: int, payload_end: int, tokens: int
) -> Callable[[int], int | None]:
    """From a place in a shard's file to the row that it belongs to; None where it is no row's."""
    if tokens:  # of a damaged page, the first document that lies in it
        starts = [int(start) for start in index]  # type: ignore[union-attr]
        ends = [*starts[1:], tokens]

        def row_of_page(at: int) -> int | None:
            if not HEADER_BYTES <= at < payload_end:
                return None
            first = (at - HEADER_BYTES) // PAGE_BYTES * PAGE_BYTES // 2
            return next(row for row, end in enumerate(ends) if end > first)

        return row_of_page
    starts = [int(start) * 8 for start in index] if index is not None else [
        HEADER_BYTES + row * (payload_end - HEADER_BYTES) // rows for row in range(rows)
    ]  # fmt: skip
    return lambda at: sum(start <= at for start in starts) - 1 if HEADER_BYTES <= at < payload_end else None


@pytest.mark.parametrize("change", ["missing", "one byte less", "empty", "one byte more", "a page more"])
def test_a_file_that_is_missing_cut_or_longer_is_found(dataset: Path, change: str) -> None:
    for path in files_of(dataset):
        whole = path.read_bytes()
        assert verify(dataset) == []
        if change == "missing":
            path.unlink()
        else:
            path.write_bytes({"one byte less": whole[:-1], "empty": b"", "one byte more": whole + b"\0",
                              "a page more": whole + bytes(4096)}[change])  # fmt: skip
        name = path.relative_to(dataset).as_posix()
        if change == "missing" and dataset.name == "deleted" and "manifests" in name:
            pass  # of several snapshots one may have been collected
        elif change == "missing" and "manifests" in name:
            with pytest.raises(FileNotFoundError, match="holds no snapshot"):
                verify(dataset)
        else:
            assert any(name in each.file for each in errors(dataset)), name
        path.write_bytes(whole)
    assert verify(dataset) == []


def test_two_shards_that_were_exchanged_are_both_found(dataset: Path) -> None:
    first, second = files_of(dataset / "shards")
    exchange(first, second)
    found = errors(dataset)
    assert {each.file for each in found} == {str(first), str(second)}
    assert any("the shard has uid" in each.what for each in found)
    exchange(first, second)
    assert verify(dataset) == []


def exchange(first: Path, second: Path) -> None:
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])


def test_files_of_another_dataset_in_the_place_of_ours_are_found(dataset: Path, tmp_path: Path) -> None:
    other = write_small(tmp_path / "other", "fixed" if dataset.name == "images" else "images")
    for ours, theirs in zip(files_of(dataset), itertools.cycle(files_of(other)), strict=False):
        whole = ours.read_bytes()
        shutil.copyfile(theirs, ours)
        assert errors(dataset), ours
        ours.write_bytes(whole)
    assert verify(dataset) == []


@pytest.mark.parametrize("name", [
    f"shards/{'0' * 32}.ffs", "shards/notes.txt", f"_feed/index/{'1' * 32}.arrow", "_feed/manifests/latest",
    "_feed/more", "README.md", "shards/below/a-file", f"_feed/present/{'2' * 32}.bits",
])  # fmt: skip
def test_a_file_that_no_snapshot_names_is_a_warning(tmp_path: Path, name: str) -> None:
    place = write_small(tmp_path / "set", "fixed")
    extra = place / name
    extra.parent.mkdir(parents=True, exist_ok=True)
    extra.write_bytes(b"extra")
    (finding,) = verify(place)
    assert (finding.severity, finding.file) == (Severity.WARNING, name)
    assert "no snapshot names" in finding.what


def test_what_a_killed_writer_left_is_a_warning(tmp_path: Path) -> None:
    place = write_small(tmp_path / "set", "fixed")
    (place / "_feed" / "staging" / "77-abc").mkdir(parents=True)
    (place / "_feed" / "staging" / "77-abc" / "half.ffs").write_bytes(b"half")
    (finding,) = verify(place)
    assert (finding.severity, finding.file) == (Severity.WARNING, "_feed/staging/77-abc")


def test_a_snapshot_that_is_missing_between_others_is_a_warning(tmp_path: Path) -> None:
    place = write_small(tmp_path / "set", "deleted")
    delete(place, [0])
    assert verify(place) == []
    (place / "_feed" / "manifests" / f"{2:020}.arrow").unlink()
    found = verify(place)
    assert [each.severity for each in found] == [Severity.WARNING] * 2
    assert "there are no snapshots 2 to 2" in found[0].what
    assert "no snapshot names" in found[1].what  # its bitmap


def test_a_damaged_page_names_the_documents_in_it(tmp_path: Path) -> None:
    place = write_small(tmp_path / "set", "tokens")
    entry = survey(LocalStorage(place)).shards[0]
    lengths = [len(document(row)) for row in range(entry.rows)]
    assert lengths == [0, 600, 1200]
    with flipping(entry.path) as flip:
        flip(HEADER_BYTES + 2 * 600, 0)  # the first token of the last document, in the first page
    found = [each for each in verify(place) if each.row is not None]
    assert [(each.row, each.what) for each in found] == [
        (1, "page 0 is not what its checksum says; documents 1 to 2 are in it")
    ]
