"""What every storage keeps; and that the faulty one fails as scripted and is otherwise a storage like the others."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.storage.faulty import FaultyStorage
from fastfeed.storage.local import LocalStorage
from fastfeed.storage.protocol import Storage


class StorageContract:
    """Subclasses give a fresh storage; the tests are the contract."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        raise NotImplementedError

    def test_a_folder_that_does_not_exist_is_empty(self, storage: Storage) -> None:
        assert storage.list("_feed/manifests") == []

    def test_what_was_created_is_listed_and_mapped(self, storage: Storage) -> None:
        storage.create("a/b/c", b"12345")
        assert storage.list("a/b") == ["c"]
        assert bytes(storage.map("a/b/c")) == b"12345"
        assert storage.map("a/b/c").readonly

    def test_an_empty_file_can_be_mapped(self, storage: Storage) -> None:
        storage.create("empty", b"")
        assert bytes(storage.map("empty")) == b""

    def test_a_missing_file_is_not_found(self, storage: Storage) -> None:
        with pytest.raises(FileNotFoundError, match="nothing"):
            storage.map("nothing")

    def test_creating_what_exists_fails_and_changes_nothing(self, storage: Storage) -> None:
        storage.create("a/name", b"first")
        with pytest.raises(FileExistsError):
            storage.create("a/name", b"second")
        assert storage.list("a") == ["name"]
        assert bytes(storage.map("a/name")) == b"first"

    def test_of_many_that_create_one_name_at_once_one_succeeds(self, storage: Storage) -> None:
        start, won = threading.Barrier(8), []

        def create(number: int) -> None:
            start.wait()
            try:
                storage.create("race/name", b"%d" % number)
            except FileExistsError:
                return
            won.append(number)

        threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert bytes(storage.map("race/name")) == b"%d" % won[0]
        assert storage.list("race") == ["name"]

    def test_publishing_gives_staged_files_their_names_and_keeps_those_that_have_one(self, storage: Storage) -> None:
        staged = [storage.staging() / name for name in ("one", "two")]
        for path in staged:
            path.write_bytes(path.name.encode())
        for _ in range(2):
            storage.publish((path, f"final/{path.name}") for path in staged)
        assert sorted(storage.list("final")) == ["one", "two"]
        assert bytes(storage.map("final/two")) == b"two"
        assert all(path.exists() for path in staged)

    def test_publishing_over_a_damaged_file_says_so(self, storage: Storage) -> None:
        storage.create("final/one", b"cut sho")
        path = storage.staging() / "one"
        path.write_bytes(b"cut short")
        with pytest.raises(CorruptDataError, match=r"has 7 bytes.*has 9"):
            storage.publish([(path, "final/one")])


    def test_files_are_listed_with_sizes_and_ages(self, storage: Storage) -> None:
        assert storage.files("a") == []
        before_s = time.time()
        storage.create("a/two", b"22")
        storage.create("a/one", b"1")
        found = storage.files("a")
        assert [(file.name, file.bytes) for file in found] == [("one", 1), ("two", 2)]
        assert all(before_s - 10 < file.modified_s < before_s + 600 for file in found)

    def test_a_file_that_is_mapped_is_held_and_not_removed(self, storage: Storage) -> None:
        storage.create("a/one", b"1")
        storage.create("a/two", b"2")
        first, second = storage.map("a/one"), storage.map("a/one")
        assert (storage.held("a/one"), storage.held("a/two")) == (True, False)
        assert storage.remove(["a/one", "a/two", "a/three"]) == ["a/one"]
        assert storage.list("a") == ["one"]
        del first
        assert storage.held("a/one")
        assert bytes(second) == b"1"
        del second
        assert storage.remove(["a/one"]) == []
        assert storage.list("a") == []
        with pytest.raises(FileNotFoundError):
            storage.held("a/one")

    @pytest.mark.parametrize("copy_bytes_max", [0, 3, 4096])
    def test_a_map_that_does_not_hold_keeps_its_bytes_and_no_descriptor(
        self, storage: Storage, copy_bytes_max: int
    ) -> None:
        storage.create("a/one", b"1234")
        storage.create("a/empty", b"")
        before = len(os.listdir("/proc/self/fd"))
        mapped = storage.map("a/one", copy_bytes_max, hold=False)
        assert bytes(storage.map("a/empty", copy_bytes_max, hold=False)) == b""
        assert len(os.listdir("/proc/self/fd")) == before
        assert not storage.held("a/one")
        assert storage.remove(["a/one"]) == []
        assert (bytes(mapped), mapped.readonly) == (b"1234", True)
        with pytest.raises(FileNotFoundError):
            storage.map("a/one", copy_bytes_max, hold=False)

    def test_publishing_again_makes_a_file_young(self, storage: Storage) -> None:
        path = storage.staging() / "one"
        path.write_bytes(b"1")
        storage.publish([(path, "final/one")])
        path.unlink()
        path.write_bytes(b"1")
        os.utime(Path(storage.url) / "final" / "one", (1, 1))
        storage.publish([(path, "final/one")])
        assert storage.files("final")[0].modified_s > 1

    def test_the_lock_is_shared_or_exclusive(self, storage: Storage) -> None:
        events: list[str] = []

        def collect() -> None:
            with storage.lock(exclusive=True):
                events.append("collected")

        with storage.lock(exclusive=False), storage.lock(exclusive=False):
            collector = threading.Thread(target=collect)
            collector.start()
            collector.join(timeout=0.1)
            events.append("committed")
        collector.join()
        assert events == ["committed", "collected"]


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return LocalStorage(tmp_path / "data" / "set")

    def test_a_map_outlives_its_file(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path)
        storage.create("name", b"1234")
        mapped = storage.map("name")
        os.unlink(tmp_path / "name")
        assert bytes(mapped) == b"1234"

    def test_a_file_where_a_folder_must_be_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(NotADirectoryError, match="file is a file"):
            LocalStorage(tmp_path / "file").create("name", b"")


class TestFaultyStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return FaultyStorage(LocalStorage(tmp_path), {})

    def test_calls_fail_by_the_script_before_or_after_they_work(self, tmp_path: Path) -> None:
        storage = FaultyStorage(LocalStorage(tmp_path), {"create": ".bas"})
        storage.create("1", b"")
        for name, message in (("2", "Input/output error"), ("3", "Input/output error"), ("4", "No space left")):
            with pytest.raises(OSError, match=message) as raised:
                storage.create(name, b"")
            assert raised.value.filename == name
        storage.create("5", b"")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3", "5"]
        assert storage.calls == [("create", name) for name in "12345"]
        assert storage.url == str(tmp_path)

    def test_every_operation_can_fail(self, tmp_path: Path) -> None:
        scripts = dict.fromkeys(("list", "map", "publish"), "b")
        storage = FaultyStorage(LocalStorage(tmp_path), scripts)
        for call in (storage.list, storage.map, lambda name: storage.publish([(tmp_path, name)])):
            with pytest.raises(OSError, match="Input/output error"):
                call("name")

    @pytest.mark.parametrize("scripts", [{"create": "x"}, {"walk": "."}])
    def test_a_script_that_means_nothing_is_refused(self, tmp_path: Path, scripts: dict[str, str]) -> None:
        with pytest.raises(ConfigError, match="cannot script"):
            FaultyStorage(LocalStorage(tmp_path), scripts)
