"""An index that says wrongly where documents end is an error before the first document, though every page is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

import fastfeed as ff
from fastfeed.errors import CorruptDataError
from tests.helpers.small_datasets import document, write_small


@pytest.fixture
def misled(tmp_path: Path) -> Path:
    """A stream whose third document begins one token later than it does; the index still ascends."""
    place = write_small(tmp_path / "set", "tokens")
    (index,) = (place / "_feed" / "index").iterdir()
    starts = b"".join(value.to_bytes(4, "little") for value in (0, 0, 600))  # documents of 0, 600 and 1,200 tokens
    data = index.read_bytes()
    assert data.count(starts) == 1
    index.write_bytes(data.replace(starts, starts[:8] + (601).to_bytes(4, "little")))
    return place


def test_no_document_is_read(misled: Path) -> None:
    dataset = ff.open(misled)
    for read in (lambda: dataset[1], lambda: dataset.take([1]), lambda: next(iter(ff.Loader(dataset, batch_size=1)))):
        with pytest.raises(CorruptDataError, match=r"_feed/index/.*xxh3-128"):
            read()


def test_windows_do_not_use_it(misled: Path) -> None:
    tokens = [int(token) for row in range(6) for token in document(row)]
    assert ff.open(misled).windows(900)[0]["tokens"].tolist() == tokens[:900]


def test_an_open_dataset_does_not_notice_what_happens_to_its_index_and_manifest(tmp_path: Path) -> None:
    """They are small, so they were copied; a mapped file that is cut would end the process."""
    place = write_small(tmp_path / "set", "tokens")
    dataset = ff.open(place)
    for file in (place / "_feed").rglob("*.arrow"):
        file.write_bytes(b"")
    assert [len(dataset[row]["tokens"]) for row in range(6)] == [len(document(row)) for row in range(6)]
