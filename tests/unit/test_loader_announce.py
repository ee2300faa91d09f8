"""What a loader tells the daemon, and that it reads on where the daemon will not be told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastfeed as ff
from fastfeed.loader.announce import job_name
from fastfeed.wire import messages as m
from fastfeed.wire.framing import ErrorCode, ProtocolError
from fastfeed.wire.sessions import close_sessions
from tests.helpers.fake_daemon import FakeDaemon, objects_of

URL = "s3://bucket/set"
ROWS = 40


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("set")
    with ff.DatasetWriter(root / "set", ff.Schema({"id": ff.Scalar("int64")})) as writer:
        for row in range(ROWS):
            writer.write({"id": row})
    return objects_of(root / "set", URL)


@pytest.fixture
def daemon(tmp_path: Path, objects: dict[str, bytes]) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "sock", objects) as daemon:
        yield daemon
        close_sessions()


def opened(daemon: FakeDaemon) -> ff.Dataset:
    return ff.open(URL, cache=str(daemon.path))


def test_the_recipe_says_what_decides_the_rows_and_the_fingerprint_is_of_them(daemon: FakeDaemon) -> None:
    dataset = opened(daemon)
    view = dataset.select(range(0, ROWS, 2)).filter("id > 3")
    with ff.Loader(view, batch_size=4, seed=7, epoch=2, rank=1, world_size=2, shuffle="full") as loader:
        next(iter(loader))
        order = loader.order
    (recipe,) = daemon.recipes
    assert (recipe.kind, recipe.url, recipe.snapshot, recipe.rows) == ("order", URL, 1, len(view))
    assert (recipe.seed, recipe.epoch, recipe.position, recipe.rank, recipe.world_size) == (7, 2, 0, 1, 2)
    assert (recipe.global_batch, recipe.last, recipe.content) == (8, "drop", view.fingerprint)
    assert recipe.view == ({"range": [0, ROWS, 2]}, {"filter": "id > 3"})
    assert recipe.order["shuffle"] == "full"
    assert [row for _, row in recipe.fingerprint] == [order[position] for position, _ in recipe.fingerprint]
    assert (recipe.fingerprint[0][0], recipe.fingerprint[-1][0]) == (0, len(view) - 1)


def test_it_is_told_once_however_often_the_loader_begins(daemon: FakeDaemon) -> None:
    with ff.Loader(opened(daemon), batch_size=10) as loader:
        for _ in range(3):
            assert len(list(loader)) == 4
        loader.set_epoch(17)
        list(loader)
        state = loader.state_dict()
        assert len(daemon.recipes) == 1
        loader.load_state_dict({**state, "seed": 5, "position": 20})
        assert len(list(loader)) == 2
    assert [(recipe.seed, recipe.position) for recipe in daemon.recipes] == [(0, 0), (5, 20)]


@pytest.mark.parametrize("kind", ["rows", "weights"])
def test_what_has_no_closed_form_is_told_as_that(daemon: FakeDaemon, kind: str) -> None:
    dataset = opened(daemon)
    source = dataset.select([3, 1, 2]) if kind == "rows" else dataset
    options = {"weights": "id"} if kind == "weights" else {}
    with ff.Loader(source, batch_size=3, **options) as loader:
        next(iter(loader))
    assert [recipe.kind for recipe in daemon.recipes] == ["opaque"]


def test_a_daemon_that_will_not_be_told_costs_no_batch_and_is_noted_once(
    tmp_path: Path, objects: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    def answer(message: m.Message) -> m.Message | None:
        if isinstance(message, m.Register):
            raise ProtocolError("no more registrations", ErrorCode.CONFIG)
        return None

    with FakeDaemon(tmp_path / "sock", objects, answer) as daemon, ff.Loader(opened(daemon), batch_size=10) as loader:
        with caplog.at_level(logging.WARNING, logger="fastfeed"):
            for seed in range(3):
                state = loader.state_dict()
                loader.load_state_dict({**state, "seed": seed, "position": 0})
                assert sorted(row for batch in loader for row in batch["id"].tolist()) == list(range(ROWS))
        assert [record.message for record in caplog.records if "was not told" in record.message] == [
            "cache: the daemon was not told what this loader will read, and prefetches nothing for it: "
            "no more registrations"
        ]
        close_sessions()


def test_nothing_is_told_of_data_on_this_machine(daemon: FakeDaemon, tmp_path: Path) -> None:
    with ff.DatasetWriter(tmp_path / "here", ff.Schema({"id": ff.Scalar("int64")})) as writer:
        writer.write({"id": 1})
    with ff.Loader(tmp_path / "here", batch_size=1) as loader:
        list(loader)
    assert daemon.requests == []


@pytest.mark.parametrize(
    ("environ", "name"),
    [({}, ""), ({"SLURM_JOB_NAME": "resnet"}, "resnet"), ({"FASTFEED_JOB": "mine", "SLURM_JOB_NAME": "x"}, "mine")],
)
def test_a_job_is_called_what_its_scheduler_calls_it(environ: dict[str, str], name: str) -> None:
    assert job_name(environ) == name
