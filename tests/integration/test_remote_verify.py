"""`fastfeed verify` of datasets on a web server and in a bucket: the same findings as with the same files in place."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import fastfeed as ff
from fastfeed.cli.main import main
from fastfeed.dataset.verify import DatasetFinding, read_shards, survey
from fastfeed.storage.local import LocalStorage
from fastfeed.storage.location import storage_to_read
from fastfeed.storage.remote_storage import FETCH_BYTES, STAGING_VARIABLE, RemoteStorage
from tests.helpers.damage import flip
from tests.helpers.servers import Nginx, SeaweedFS
from tests.helpers.small_datasets import NAMES, write_small


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    root = tmp_path_factory.mktemp("www")
    for name in NAMES:
        write_small(root / name, name)
    with Nginx(tmp_path_factory.mktemp("nginx"), root) as server:
        yield server


def findings_at(place: str, replaced: str) -> list[DatasetFinding]:
    """All findings of `place`, which they call `replaced`."""
    storage = storage_to_read(place)
    try:
        found = survey(storage)
        every = [*found.findings, *(each for _, some in read_shards(found, 2) for each in some)]
    finally:
        storage.close()
    return [
        dataclasses.replace(each, file=each.file.replace(place, replaced), what=each.what.replace(place, replaced))
        for each in every
    ]


def first_shard(place: Path) -> Path:
    return min((place / "shards").iterdir())


def flip_a_byte(place: Path) -> None:
    flip(first_shard(place), 4096 + 40)


def cut_a_shard(place: Path) -> None:
    os.truncate(first_shard(place), first_shard(place).stat().st_size - 1000)


def lose_a_shard(place: Path) -> None:
    first_shard(place).unlink()


def flip_in_the_index(place: Path) -> None:
    flip(min((place / "_feed" / "index").iterdir()), 300)


def leave_a_stray(place: Path) -> None:
    (place / "shards" / f"{'0' * 32}.ffs").write_bytes(b"x")


@pytest.mark.parametrize("name", NAMES)
def test_a_dataset_that_is_whole_has_no_findings(web: Nginx, name: str) -> None:
    assert findings_at(f"{web.url}/{name}", "") == findings_at(str(web.root / name), "") == []


@pytest.mark.parametrize("damage", [flip_a_byte, cut_a_shard, lose_a_shard, flip_in_the_index, leave_a_stray])
def test_damage_is_found_as_in_place(web: Nginx, damage: Callable[[Path], None]) -> None:
    place = web.root / damage.__name__
    shutil.copytree(web.root / NAMES[0], place)
    damage(place)
    local = findings_at(str(place), "there")
    assert local
    assert findings_at(f"{web.url}/{damage.__name__}", "there") == local


def test_a_shard_that_has_grown_is_not_fetched(web: Nginx) -> None:
    place = web.root / "grown"
    shutil.copytree(web.root / NAMES[0], place)
    with open(first_shard(place), "ab") as file:
        file.write(bytes(100_000))
    found = findings_at(f"{web.url}/grown", "")
    assert [each.what.split(",")[0].split(" has ")[0] for each in found] == ["the file"]


def test_the_command_finds_a_damaged_byte_in_a_bucket_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = ff.Schema({"id": ff.Scalar("int64"), "data": ff.Tensor("uint8", (60_000,))})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with SeaweedFS(tmp_path / "weed") as weed:
        for name, value in {**weed.variables, STAGING_VARIABLE: str(scratch)}.items():
            monkeypatch.setenv(name, value)
        url = f"s3://{weed.bucket}/numbers"
        with ff.DatasetWriter(tmp_path / "numbers", schema, shard_size="12MiB") as writer:
            for row in range(500):
                writer.write({"id": row, "data": np.full(60_000, row % 251, np.uint8)})
        storage = LocalStorage(tmp_path / "numbers")
        damaged = next(name for name in storage.walk() if (tmp_path / "numbers" / name).stat().st_size > 9 << 20)
        flip(tmp_path / "numbers" / damaged, FETCH_BYTES + 5)
        with closing(RemoteStorage(url)) as there:
            there.publish((tmp_path / "numbers" / name, name) for name in storage.walk())
        assert main(["verify", url]) == 3
        out = capsys.readouterr().out
        assert f"error: {url}/{damaged}: row " in out
        assert "1 snapshot, 3 shards, 500 rows" in out
        assert main(["verify", url, "--snapshot", "9"]) == 4
    assert list(scratch.iterdir()) == []
