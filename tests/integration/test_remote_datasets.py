"""Datasets that are not on this machine, through a real daemon: everything as with the same files in place.

One daemon and one web server for the module. What a cache does when things break is tests/fault's.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch.utils.data

import fastfeed as ff
import fastfeed.torch as fft
from fastfeed.bench.ladder import LadderOptions, climb
from fastfeed.dataset.folder import manifest_name
from fastfeed.dataset.remote import RemoteFiles
from fastfeed.dataset.urls import object_url
from fastfeed.dataset.view_data import view_data, view_of
from fastfeed.errors import ConfigError, CorruptDataError, DatasetNotFoundError, OriginError
from fastfeed.storage.local import LocalStorage
from fastfeed.wire.messages import Command
from fastfeed.wire.sessions import close_sessions, place_for, session_at
from tests.helpers.cache_daemon import CacheDaemon
from tests.helpers.faulty_http import FaultyHttp
from tests.helpers.hostile import altered
from tests.helpers.remote_values import plain, samples_of
from tests.helpers.small_datasets import NAMES, write_small

ROWS = 3000


class Site:
    """A folder, the web server that serves it, and the daemon that reads from there."""

    def __init__(self, root: Path, origin: FaultyHttp, socket: Path) -> None:
        self.root, self.origin, self.url, self.socket = root, origin, origin.url, socket

    def both(self, name: str, **options: Any) -> tuple[ff.Dataset, ff.Dataset]:
        """The dataset `name`, in place and through the daemon."""
        return ff.open(self.root / name, **options), self.remote(name, **options)

    def remote(self, name: str, **options: Any) -> ff.Dataset:
        return ff.open(f"{self.url}/{name}", cache=str(self.socket), **options)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("www")
    for name in NAMES:
        write_small(root / name, name)
    schema = ff.Schema({"id": ff.Scalar("int64"), "bytes": ff.Bytes(), "half": ff.Tensor("float16", (16,))})
    with ff.DatasetWriter(root / "many", schema, shard_size="1MiB") as writer:
        for row in range(ROWS):
            half = np.full(16, row % 99, np.float16)
            writer.write({"id": row, "bytes": row.to_bytes(2, "little") * 300, "half": half})
    with (
        FaultyHttp(root) as origin,
        CacheDaemon(tmp_path_factory.mktemp("node"), limit="64MiB", origin_settings="retries = 1") as daemon,
    ):
        yield Site(root, origin, daemon.socket)
        close_sessions()


@pytest.mark.parametrize("name", NAMES)
class TestEveryLayout:
    def test_every_sample_is_as_in_place(self, site: Site, name: str) -> None:
        local, remote = site.both(name)
        assert samples_of(remote) == samples_of(local)
        assert (remote.fingerprint, remote.schema, len(remote)) == (local.fingerprint, local.schema, len(local))

    def test_batches_are_as_in_place(self, site: Site, name: str) -> None:
        local, remote = site.both(name)
        rows = np.arange(len(local))[::-1]
        ours, theirs = remote.take(rows), local.take(rows)
        for column in local.schema:
            assert plain(np.asarray(getattr(ours[column], "values", ours[column]))) == plain(
                np.asarray(getattr(theirs[column], "values", theirs[column]))
            )

    def test_it_comes_back_from_a_pickle_with_its_view(self, site: Site, name: str) -> None:
        local, remote = (each.select(range(1, len(each))) for each in site.both(name))
        again = pickle.loads(pickle.dumps(remote))
        assert repr(again) == repr(remote)
        assert samples_of(again) == samples_of(local)


class TestAnOriginThatHangs:
    def test_a_loader_that_waits_for_it_is_closed_at_once(self, site: Site) -> None:
        """Also where Ctrl-C ended the wait, and the interpreter closes it: a miss may wait for three minutes."""
        shutil.copytree(site.root / "many", site.root / "hanging")
        dataset = site.remote("hanging")
        site.origin.set(chances={"hang": 1.0})
        try:
            loader = ff.Loader(dataset, batch_size=8, timeout_s=0.5)
            with pytest.raises(TimeoutError, match="no batch within"):
                next(iter(loader))
            begun_s = time.monotonic()
            loader.close()
            assert time.monotonic() - begun_s < 10
        finally:
            site.origin.set()


class TestViews:
    def test_filters_and_lanes_read_the_shards_ends_through_the_cache(self, site: Site) -> None:
        local, remote = site.both("many")
        assert (remote.lane("id") == local.lane("id")).all()
        assert samples_of(remote.filter("id >= 10 and id < 14")) == samples_of(local.select(range(10, 14)))
        assert remote.lane("bytes.bytes").tolist() == [600] * ROWS

    def test_windows_of_a_stream_are_as_in_place(self, site: Site) -> None:
        local, remote = (each.windows(100, stride=90) for each in site.both("tokens"))
        assert len(remote) == len(local) > 10
        assert samples_of(remote) == samples_of(local)
        _, documents = site.both("tokens")
        assert documents.lane("tokens.count").sum() == documents.tokens

    def test_a_view_told_as_data_is_the_same_view(self, site: Site) -> None:
        remote = site.remote("many")
        view = remote.filter("id > 100").split({"train": 0.7, "val": 0.3}, seed=5)["val"].select(slice(None, None, -2))
        data = view_data(view)
        assert data is not None
        again = view_of(remote.opened, pickle.loads(pickle.dumps(data)))
        assert again.fingerprint == view.fingerprint
        windows = site.remote("tokens").windows(64).select(range(3, 9))
        told = view_data(windows)
        assert told is not None
        assert view_of(windows.opened, told).fingerprint == windows.fingerprint

    def test_a_view_by_a_list_of_rows_has_no_small_form(self, site: Site) -> None:
        assert view_data(site.remote("many").select([5, 3, 1])) is None

    @pytest.mark.parametrize(
        "step", [{"range": [0, ROWS + 1]}, {"range": ["x"]}, {"filter": "no lane"}, {"split": [1]}, {"shuffle": 1}, {}]
    )
    def test_a_view_that_there_is_not_is_refused(self, site: Site, step: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            view_of(site.remote("many").opened, [step])


class TestSnapshots:
    def test_one_may_be_pinned_and_one_that_is_not_there_is_an_error(self, site: Site) -> None:
        assert site.remote("deleted").snapshot == 2
        assert len(site.remote("deleted", snapshot=1)) == len(site.remote("deleted")) + 2
        with pytest.raises(DatasetNotFoundError, match=r"no snapshot 7\. The newest is 2"):
            site.remote("deleted", snapshot=7)

    def test_a_place_without_a_dataset_says_what_to_look_at(self, site: Site) -> None:
        with pytest.raises(DatasetNotFoundError, match="holds no snapshot"):
            site.remote("nothing/here")

    def test_an_origin_that_nobody_serves_is_an_origin_error(self, site: Site) -> None:
        with pytest.raises(OriginError):
            ff.open("http://127.0.0.1:9/none", cache=str(site.socket))

    def test_a_damaged_manifest_is_named(self, site: Site) -> None:
        shutil.copytree(site.root / "fixed", site.root / "damaged")
        path = site.root / "damaged" / manifest_name(1)
        data = bytearray(path.read_bytes())
        data[200] ^= 1
        path.write_bytes(data)
        with pytest.raises(CorruptDataError, match=f"{site.url}/damaged/{manifest_name(1)}"):
            site.remote("damaged")

    def test_a_damaged_shard_is_never_a_sample(self, site: Site) -> None:
        shutil.copytree(site.root / "kinds", site.root / "rotten")
        shard = next((site.root / "rotten" / "shards").iterdir())
        data = bytearray(shard.read_bytes())
        data[4096 + 50] ^= 1
        shard.write_bytes(data)
        with pytest.raises(CorruptDataError, match=shard.name):
            samples_of(site.remote("rotten"))


class TestShardsElsewhere:
    """Manifests may name shards of other datasets: by URLs, and on this machine by absolute paths."""

    def with_paths(self, site: Site, name: str, root: str) -> Path:
        """A copy of the dataset "fixed" without shards, whose manifest names them below `root`."""
        storage = LocalStorage(site.root / name)
        shutil.copytree(site.root / "fixed", storage.root)
        shutil.rmtree(storage.root / "shards")
        data = bytes(storage.map(manifest_name(1)))
        (storage.root / manifest_name(1)).unlink()
        elsewhere = {"path": lambda paths: pa.array([f"{root}/{path}" for path in paths.to_pylist()])}
        storage.create(manifest_name(1), altered(data, columns=elsewhere))
        return storage.root

    def test_a_remote_manifest_may_name_urls(self, site: Site) -> None:
        self.with_paths(site, "by-url", f"{site.url}/fixed")
        assert samples_of(site.remote("by-url")) == samples_of(ff.open(site.root / "fixed"))

    def test_a_manifest_on_this_machine_may_name_urls(self, site: Site) -> None:
        root = self.with_paths(site, "here-by-url", f"{site.url}/fixed")
        opened = ff.open(root, cache=str(site.socket))
        assert samples_of(opened) == samples_of(ff.open(site.root / "fixed"))
        assert samples_of(pickle.loads(pickle.dumps(opened))) == samples_of(opened)

    def test_a_remote_manifest_that_names_paths_of_its_maker_is_refused(self, site: Site) -> None:
        self.with_paths(site, "by-path", "/data/elsewhere")
        with pytest.raises(ConfigError, match="a path of the machine that made it"):
            site.remote("by-path")

    def test_the_url_of_a_shard_is_one_rule(self) -> None:
        assert object_url("s3://b/d", "shards/x.ffs") == "s3://b/d/shards/x.ffs"
        assert object_url("s3://b/d", "gs://o/x.ffs") == "gs://o/x.ffs"
        assert object_url("file:///d", "/e/a b.ffs") == "file:///e/a%20b.ffs"


def ids_in_a_child(dataset: ff.Dataset, rows: list[int], results: Any) -> None:
    results.put([dataset[row]["id"] for row in rows])


class TestProcesses:
    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_a_child_reads_through_a_session_of_its_own(self, site: Site, method: str) -> None:
        remote = site.remote("many")
        assert remote[5]["id"] == 5  # the parent has its session
        context = multiprocessing.get_context(method)
        results = context.Queue()
        child = context.Process(target=ids_in_a_child, args=(remote, [7, 2999, 0], results))
        child.start()
        assert results.get(timeout=60) == [7, 2999, 0]
        child.join()
        assert child.exitcode == 0
        assert remote[6]["id"] == 6

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_workers_of_a_dataloader_read_a_map_dataset(self, site: Site, method: str) -> None:
        dataset = fft.MapDataset(site.remote("many"), columns=["id"])
        assert dataset[0]["id"] == 0
        loader = torch.utils.data.DataLoader(dataset, batch_size=100, num_workers=2, multiprocessing_context=method)
        assert [int(each) for batch in loader for each in batch["id"]] == list(range(ROWS))

    def test_workers_of_a_dataloader_read_an_iterable_dataset(self, site: Site) -> None:
        dataset = fft.IterableDataset(site.remote("many"), columns=["id"], seed=3)
        loader = torch.utils.data.DataLoader(dataset, batch_size=64, num_workers=2)
        assert sorted(int(each) for batch in loader for each in batch["id"]) == list(range(ROWS))


class TestLoaders:
    def test_an_epoch_is_as_in_place_and_the_next_costs_no_message(self, site: Site) -> None:
        local, remote = site.both("many")
        with ff.Loader(local, batch_size=100, seed=4) as ours, ff.Loader(remote, batch_size=100, seed=4) as theirs:
            for _ in range(2):
                wanted = [(batch.rows.tolist(), batch["id"].tolist(), batch["half"].tobytes()) for batch in ours]
                assert [(b.rows.tolist(), b["id"].tolist(), b["half"].tobytes()) for b in theirs] == wanted
            client = remote.opened.payload.opened().client  # type: ignore[attr-defined]
            before = client.stats()["messages"]
            assert len(list(theirs)) == 30
            assert client.stats()["messages"] == before

    def test_the_daemon_knows_the_job_its_place_and_its_end(self, site: Site) -> None:
        remote = site.remote("many")
        session = session_at(remote.opened.payload.place)  # type: ignore[arg-type]

        def jobs() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = session.command(Command.STATUS, {})["pools"][0]["jobs"]
            return found

        with ff.Loader(remote, batch_size=100, epoch=2) as loader:
            for batch, _ in zip(loader, range(3), strict=False):
                assert len(batch) == 100
            assert loader._announcer.forecasts() != []
            (job,) = jobs()
            assert job["url"] == remote.url
        poll(lambda: jobs() == [], "the loader that was closed is no job any more")

    def test_a_cache_limit_is_a_demand_that_the_node_meets_or_not(self, site: Site) -> None:
        remote = site.remote("many")
        with ff.Loader(remote, batch_size=10, cache_limit="64MiB") as loader:
            assert len(next(iter(loader))) == 10
        assert len(fft.MapDataset(remote, cache_limit="1gb")) == ROWS
        with pytest.raises(ConfigError, match=r"may hold 64\.0 MiB"):
            ff.Loader(remote, batch_size=10, cache_limit="10MiB")

    def test_a_forked_child_tells_of_itself_and_not_in_its_parents_name(self, site: Site) -> None:
        remote = site.remote("many")
        session = session_at(remote.opened.payload.place)  # type: ignore[arg-type]

        def places() -> set[tuple[int, int]]:
            found = session.command(Command.STATUS, {})["pools"][0]["jobs"]
            return {(job["epoch"], job["position"]) for job in found}

        with ff.Loader(remote, batch_size=100, epoch=5) as loader:
            iteration = iter(loader)
            next(iteration)
            poll(lambda: (5, 100) in places(), "the parent's place is known")
            ready, done = os.pipe(), os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    next(iteration)
                    loader.set_epoch(9)
                    next(iter(loader))
                    os.write(ready[1], b".")
                    os.read(done[0], 1)
                    loader.close()
                    os._exit(0)
                finally:
                    os._exit(1)
            os.read(ready[0], 1)
            poll(lambda: {(5, 100), (9, 100)} <= places(), f"both places are known: {places()}")
            os.write(done[1], b".")
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            poll(lambda: places() == {(5, 100)}, "the parent's place is left")
            for descriptor in (*ready, *done):
                os.close(descriptor)

    def test_a_state_is_resumed_where_it_was(self, site: Site) -> None:
        remote = site.remote("many")
        with ff.Loader(remote, batch_size=100, seed=1) as loader:
            iteration = iter(loader)
            for _ in range(7):
                next(iteration)
            state = loader.state_dict()
            rest = [batch["id"].tolist() for batch in iteration]
        with ff.Loader(site.root / "many", batch_size=100, seed=1) as local:
            local.load_state_dict(state)
            assert [batch["id"].tolist() for batch in local] == rest

    def test_is_measured_and_nothing_is_said_of_the_page_cache(self, site: Site) -> None:
        report = climb(site.remote("many"), LadderOptions(seconds=0.2, batch_size=100, threads=(1,)))
        assert report["samples_per_s"] > 0
        assert (report["in_memory"], report["io"]["name"]) == (None, "cache")
        with pytest.raises(ConfigError, match="evict a remote dataset instead: fastfeed cache evict http"):
            climb(site.remote("many"), LadderOptions(seconds=0.2, batch_size=100, cold=True))

    @pytest.mark.parametrize("name", ["mixture", "weights", "rows"])
    def test_what_has_no_closed_form_is_read_all_the_same(self, site: Site, name: str) -> None:
        remote = site.remote("many")
        source: Any = remote.select([9, 7, 1000, 2]) if name == "rows" else remote
        if name == "mixture":
            source = ff.Mixture([(remote.filter("id < 1000"), 0.5), (site.remote("many").filter("id >= 2000"), 0.5)])
        options = {"weights": "id"} if name == "weights" else {}
        with ff.Loader(source, batch_size=2, columns=["id"], **options) as loader:
            batches = [batch["id"].tolist() for batch, _ in zip(loader, range(2), strict=False)]
        assert all(0 <= each < ROWS for batch in batches for each in batch)


def poll(happens: Any, what: str) -> None:
    deadline_s = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)


def test_files_of_any_size_come_whole_and_large_ones_are_mapped(site: Site) -> None:
    (site.root / "files").mkdir()
    contents = {"empty": b"", "small": b"x" * 1000, "large": np.random.default_rng(0).bytes(5 << 20)}
    for name, data in contents.items():
        (site.root / "files" / name).write_bytes(data)
    files = RemoteFiles(f"{site.url}/files", place_for(site.socket))
    before = len(os.listdir("/proc/self/fd"))
    assert {name: bytes(files.map(name)) for name in contents} == contents
    assert [(file.name, file.bytes) for file in files.files("")] == sorted((n, len(d)) for n, d in contents.items())
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    with pytest.raises(FileNotFoundError):
        files.map("none")


def test_the_process_keeps_few_descriptors_whatever_it_opens(site: Site) -> None:
    many = [site.remote(name) for name in NAMES for _ in range(10)]
    before = len(os.listdir("/proc/self/fd"))
    more = [site.remote(name) for name in NAMES for _ in range(10)]
    assert [len(each) for each in more] == [len(each) for each in many]
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_index_files_of_many_commits_are_not_asked_for_one_after_the_other(site: Site) -> None:
    """And the second who opens the snapshot costs the origin a listing and a look at the manifest."""
    for row in range(8):
        with ff.DatasetWriter(site.root / "grown", ff.Schema({"id": ff.Scalar("int64")}), append=row > 0) as writer:
            writer.write({"id": row})
    assert [sample["id"] for sample in site.remote("grown")] == list(range(8))
    before = site.origin.counts()["requests"]
    assert len(site.remote("grown")) == 8
    assert site.origin.counts()["requests"] - before <= 3
