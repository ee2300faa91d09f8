"""Datasets that change, against lists in memory: hypothesis chooses what happens, and in what order.

After every step each snapshot that must be readable is what the model says, by every reader; verify finds no error
after collections and at the end. A long run:
FASTFEED_MACHINE_RUNS=2000 python -m pytest --timeout=0 tests/stateful/test_dataset_machine.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import fastfeed as ff
from fastfeed._native.selection import Selection
from fastfeed.dataset.commit import commit_shards
from fastfeed.dataset.folder import newest_manifest, snapshot_numbers
from fastfeed.dataset.gc import Collection
from fastfeed.dataset.staging import Staging
from fastfeed.dataset.verify import Severity, read_shards, survey
from fastfeed.format import reference
from fastfeed.format.encode import SampleEncoder
from fastfeed.format.writer import ShardWriter
from fastfeed.storage.faulty import FaultyStorage
from fastfeed.storage.local import LocalStorage

RUNS = int(os.environ.get("FASTFEED_MACHINE_RUNS", "8"))
STEPS = 14
SCHEMA = ff.Schema({"id": ff.Scalar("int64"), "text": ff.Text(codec="zstd"), "blob": ff.Bytes()})
NAMES = ("a", "b", "c")
FAR_FUTURE_S = 1e12  # everything is older than this

names = st.sampled_from(NAMES)
# Few different ids: equal shards come up again, under names that exist.
ids = st.lists(st.integers(0, 9), min_size=0, max_size=6)


def sample(number: int) -> dict[str, Any]:
    """Two are large: three of those fill a shard."""
    return {"id": number, "text": f"sample {number} " * 5, "blob": bytes([number]) * (22_000 if number % 5 == 0 else 9)}


class DatasetMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.model: dict[str, dict[int, list[int]]] = {name: {} for name in NAMES}
        self.read_by_reference: dict[str, int] = {}
        self.held: list[tuple[str, int, ff.Dataset]] = []

    def teardown(self) -> None:
        try:
            for name in self._datasets():
                self._verify(name)
                for snapshot in self.model[name]:
                    self._read_by_reference(name, snapshot)
        finally:
            self.held.clear()
            shutil.rmtree(self.root)

    # --- what may happen ---

    @initialize(numbers=ids)
    def begin(self, numbers: list[int]) -> None:
        self._write("a", numbers, {})

    @rule(name=names, numbers=ids)
    def append(self, name: str, numbers: list[int]) -> None:
        before = self._newest(name)
        snapshot = self._write(name, numbers, {"append": True})
        assert self.model[name][snapshot] == numbers
        self.model[name][snapshot] = before + numbers

    @rule(name=names, numbers=ids)
    def overwrite(self, name: str, numbers: list[int]) -> None:
        self._write(name, numbers, {"overwrite": True})

    @precondition(lambda self: self._datasets())
    @rule(data=st.data(), how=st.sampled_from(["rows", "selection", "filter", "view"]))
    def delete(self, data: st.DataObject, how: str) -> None:
        name = data.draw(st.sampled_from(self._datasets()))
        dataset, present = ff.open(self.root / name), self._newest(name)
        if how == "filter":
            limit = data.draw(st.integers(0, 10))
            snapshot, gone = ff.delete(dataset, f"id < {limit}"), {at for at, x in enumerate(present) if x < limit}
        else:
            gone = data.draw(st.sets(st.integers(0, len(present) - 1))) if present else set()
            if how == "view":
                kept = sorted(set(range(len(present))) - gone)
                snapshot = ff.delete(dataset.select(sorted(gone)), list(range(len(gone))))
                assert len(kept) + len(gone) == len(present)
            else:
                rows = sorted(gone) if how == "rows" else Selection.from_rows(sorted(gone), len(present))
                snapshot = ff.delete(dataset, rows)
        assert (snapshot == dataset.snapshot) == (not gone)
        self.model[name][snapshot] = [number for at, number in enumerate(present) if at not in gone]

    @precondition(lambda self: self._datasets())
    @rule(data=st.data(), name=names)
    def merge(self, data: st.DataObject, name: str) -> None:
        sources = data.draw(st.lists(st.sampled_from(self._datasets()), min_size=1, max_size=2))
        added = [number for source in sources for number in self._newest(source)]
        rows = self._newest(name) + added
        self.model[name][ff.merge(self.root / name, [self.root / source for source in sources])] = rows

    @precondition(lambda self: self._datasets())
    @rule(data=st.data(), first=ids, second=ids)
    def two_writers_append_at_once(self, data: st.DataObject, first: list[int], second: list[int]) -> None:
        name = data.draw(st.sampled_from(self._datasets()))
        writers = [ff.DatasetWriter(self.root / name, append=True, shard_size="64KiB") for _ in range(2)]
        for writer, numbers in zip(writers, (first, second), strict=True):
            for number in numbers:
                writer.write(sample(number))
        together([writer.close for writer in writers])
        rows = self._newest(name)
        for writer, numbers in sorted(zip(writers, (first, second), strict=True), key=lambda pair: pair[0].snapshot):
            rows = rows + numbers
            self.model[name][writer.snapshot] = rows

    @precondition(lambda self: self._datasets())
    @rule(data=st.data(), numbers=ids, operation=st.sampled_from(["publish", "create"]), at=st.integers(0, 2),
          how=st.sampled_from("bas"), killed=st.booleans())  # fmt: skip
    def commit_that_fails(
        self, data: st.DataObject, numbers: list[int], operation: str, at: int, how: str, killed: bool
    ) -> None:
        """The answer of the last step may be lost: then the snapshot is there, whole."""
        name = data.draw(st.sampled_from(self._datasets()))
        storage, rows = LocalStorage(self.root / name), self._newest(name)
        before = snapshot_numbers(storage)[-1]
        staging = Staging(storage)
        faulty = FaultyStorage(storage, {operation: "." * at + how})
        try:
            shards = self._shards(staging.folder, numbers)
            try:
                commit_shards(faulty, schema=SCHEMA, shards=shards, append=True)
            except OSError:
                after = snapshot_numbers(storage)[-1]
                assert after in (before, before + 1)
            else:
                after = before + 1
        finally:
            if killed:
                shutil.copytree(staging.folder, staging.folder.with_name(f"{len(self.held)}-of-the-dead"),
                                dirs_exist_ok=True)  # fmt: skip
            staging.remove()
        if after > before:
            self.model[name][after] = rows + numbers

    @precondition(lambda self: self._datasets())
    @rule(data=st.data(), keep=st.none() | st.integers(1, 3))
    def collect(self, data: st.DataObject, keep: int | None) -> None:
        name = data.draw(st.sampled_from(self._datasets()))
        dry = ff.gc(self.root / name, older_than=0, keep_snapshots=keep)
        report = ff.gc(self.root / name, older_than=0, keep_snapshots=keep, delete=True)
        assert (dry.removed, dry.snapshots_dropped) == (report.removed, report.snapshots_dropped) or keep is not None
        self._forget_snapshots(name, keep, report.snapshots_dropped)
        assert ff.gc(self.root / name, older_than=0).removed == []
        assert [finding for finding in survey(LocalStorage(self.root / name)).findings if "no snapshot" in finding.what
                and "names" in finding.what] == [] or report.referred  # fmt: skip

    @precondition(lambda self: self._datasets())
    @rule(data=st.data(), keep=st.integers(1, 3), at=st.integers(0, 4), how=st.sampled_from("ba"))
    def collection_that_fails(self, data: st.DataObject, keep: int, at: int, how: str) -> None:
        name = data.draw(st.sampled_from(self._datasets()))
        storage = LocalStorage(self.root / name)
        before = snapshot_numbers(storage)
        faulty = FaultyStorage(storage, {"remove": "." * at + how})
        with storage.lock(exclusive=True), suppress(OSError):
            Collection(faulty, FAR_FUTURE_S, set(), delete=True).run(keep)
        left = snapshot_numbers(storage)
        self._forget_snapshots(name, keep, [number for number in before if number not in left])

    @precondition(lambda self: self._datasets())
    @rule(data=st.data())
    def a_reader_holds_a_snapshot(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self._datasets()))
        snapshot = data.draw(st.sampled_from(sorted(self.model[name])))
        self.held.append((name, snapshot, ff.open(self.root / name, snapshot=snapshot)))

    @precondition(lambda self: self.held)
    @rule()
    def a_reader_lets_go(self) -> None:
        self.held.pop(0)

    @precondition(lambda self: self._datasets())
    @rule(data=st.data(), limit=st.integers(0, 10))
    def views(self, data: st.DataObject, limit: int) -> None:
        name = data.draw(st.sampled_from(self._datasets()))
        dataset, present = ff.open(self.root / name), self._newest(name)
        rows = data.draw(st.lists(st.integers(0, len(present) - 1))) if present else []
        assert numbers_of(dataset.select(rows)) == [present[row] for row in rows]
        assert numbers_of(dataset.filter(f"id >= {limit}")) == [number for number in present if number >= limit]
        parts = dataset.split({"train": 0.5, "val": 0.5}, seed=limit)
        assert sorted(numbers_of(parts["train"]) + numbers_of(parts["val"])) == sorted(present)

    # --- what holds after every step ---

    @invariant()
    def every_snapshot_is_what_it_was(self) -> None:
        for name in self._datasets():
            place = self.root / name
            assert snapshot_numbers(LocalStorage(place)) == sorted(self.model[name])
            for snapshot, numbers in self.model[name].items():
                dataset = ff.open(place, snapshot=snapshot)
                assert numbers_of(dataset) == numbers
            newest = max(self.model[name])
            if self.read_by_reference.get(name) != newest:  # its crc32c takes 2 s a MB: each snapshot once
                self.read_by_reference[name] = newest
                self._read_by_reference(name, newest)

    @invariant()
    def readers_that_hold_a_snapshot_are_not_disturbed(self) -> None:
        for name, snapshot, dataset in self.held:
            assert numbers_of(dataset) == self.model[name][snapshot]

    # --- helpers ---

    def _read_by_reference(self, name: str, snapshot: int) -> None:
        numbers = self.model[name][snapshot]
        assert [row["id"] for row in reference.read_dataset(self.root / name, snapshot)] == numbers
        texts = [one["text"] for one in ff.open(self.root / name, snapshot=snapshot)]
        assert texts == [sample(number)["text"] for number in numbers]

    def _verify(self, name: str) -> None:
        found = survey(LocalStorage(self.root / name))
        findings = [*found.findings, *(each for _, some in read_shards(found, 1) for each in some)]
        assert [each for each in findings if each.severity is Severity.ERROR] == []

    def _datasets(self) -> list[str]:
        return [name for name in NAMES if self.model[name]]

    def _newest(self, name: str) -> list[int]:
        return self.model[name][max(self.model[name])] if self.model[name] else []

    def _write(self, name: str, numbers: list[int], options: dict[str, bool]) -> int:
        with ff.DatasetWriter(self.root / name, SCHEMA, shard_size="64KiB", **options) as writer:
            for number in numbers:
                writer.write(sample(number))
        assert writer.snapshot is not None
        self.model[name][writer.snapshot] = numbers
        return writer.snapshot

    def _shards(self, folder: Path, numbers: list[int]) -> list[Any]:
        if not numbers:
            return []
        writer = ShardWriter(folder, SCHEMA)
        writer.add(SampleEncoder(SCHEMA).encode_samples([sample(number) for number in numbers]))
        return [writer.finish(folder)]

    def _forget_snapshots(self, name: str, keep: int | None, dropped: Sequence[int]) -> None:
        held = {snapshot for each, snapshot, _ in self.held if each == name}
        unwanted = sorted(self.model[name])[:-keep] if keep else []
        assert set(dropped) <= set(unwanted) - held
        for snapshot in dropped:
            del self.model[name][snapshot]
        manifest = newest_manifest(LocalStorage(self.root / name))
        assert manifest is not None
        assert manifest.rows_present == len(self._newest(name))
        self._verify(name)


def numbers_of(dataset: ff.Dataset) -> list[int]:
    found: list[int] = dataset.take(range(len(dataset)), columns=["id", "blob"])["id"].tolist()
    return found


def together(calls: Sequence[Callable[[], None]]) -> None:
    """Make the calls at the same moment, each in a thread."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], None]) -> None:
        start.wait()
        call()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


TestDatasets = DatasetMachine.TestCase
TestDatasets.settings = settings(
    max_examples=RUNS, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
)
