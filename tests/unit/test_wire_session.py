"""A session with a daemon that comes and goes, answers wrongly, or not at all. The daemon is one of the test's own."""

from __future__ import annotations

import errno
import json
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fastfeed.errors import (
    ConfigError,
    CorruptDataError,
    DaemonUnavailableError,
    DatasetNotFoundError,
    FormatVersionError,
    OriginChangedError,
    OriginError,
)
from fastfeed.wire import messages as m
from fastfeed.wire.attach import place_of
from fastfeed.wire.connection import Connection, ConnectionLost
from fastfeed.wire.framing import ErrorCode, ProtocolError, unpack_frame
from fastfeed.wire.hot import Error
from fastfeed.wire.place import Place, Start
from fastfeed.wire.places import believed_users, own_socket, runtime_directory
from fastfeed.wire.private import PrivateDaemons
from fastfeed.wire.recipe import Recipe
from fastfeed.wire.session import RemoteSet, Session
from fastfeed.wire.sets import sizes_hash
from tests.helpers.fake_daemon import FakeDaemon

DEADLINE_S = 30.0
DATA = np.random.default_rng(5).bytes(3 << 20)
URL = "s3://bucket/file"
OBJECTS = {URL: DATA, "s3://bucket/empty": b"", "s3://bucket/deep/er": b"x"}
RECIPE = Recipe(kind="opaque", url=URL, snapshot=1, content="", rows=100, epoch=3, position=7)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "sock", OBJECTS) as daemon:
        yield daemon


@pytest.fixture
def session(daemon: FakeDaemon) -> Iterator[Session]:
    session = Session(Place(daemon.path), PrivateDaemons())
    yield session
    session.close()


def wait_until(happens: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not happens():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.01)


class TestRequests:
    def test_a_folder_is_listed(self, session: Session) -> None:
        assert sorted(file.name for file in session.list_folder("s3://bucket")) == ["empty", "file"]
        below = session.list_folder("s3://bucket", recursive=True)
        assert sorted(file.name for file in below) == ["deep/er", "empty", "file"]
        assert session.list_folder("s3://elsewhere") == []

    def test_a_whole_file_comes_in_a_memfd(self, session: Session) -> None:
        file = session.file(URL, 0, 1 << 30)
        try:
            assert os.pread(file.descriptor, file.size_bytes, 0) == DATA
        finally:
            os.close(file.descriptor)

    def test_what_is_not_there_is_a_file_not_found(self, session: Session) -> None:
        for ask in (lambda: session.head("s3://bucket/none"), lambda: session.open_url("s3://bucket/none")):
            with pytest.raises(DatasetNotFoundError, match="no such object") as caught:
                ask()
            assert isinstance(caught.value, FileNotFoundError)

    def test_a_command_is_json_both_ways(self, session: Session) -> None:
        assert session.command(m.Command.EXPLAIN, {"row": 3}) == {"row": 3}

    def test_nothing_is_connected_before_it_is_needed(self, session: Session, daemon: FakeDaemon) -> None:
        assert daemon.requests == []
        assert session.welcome.daemon_pid == os.getpid()
        assert [hello.kind for hello in daemon.of(m.Hello)] == [m.Kind.CONTROL]

    def test_requests_of_many_threads_all_get_their_own_answers(self, session: Session) -> None:
        found: dict[int, object] = {}

        def ask(number: int) -> None:
            for _ in range(20):
                found[number] = session.command(m.Command.LS, {"number": number})
                assert found[number] == {"number": number}

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8


    def test_nobody_waits_for_a_listing_of_another_thread(self, tmp_path: Path) -> None:
        """Nor that listing for others: once something is open, what only asks goes by connections of its own."""
        go, asked = threading.Event(), threading.Event()

        def slow(message: m.Message) -> None:
            if isinstance(message, m.List) and message.url.endswith("slow"):
                asked.set()
                assert go.wait(DEADLINE_S)

        with FakeDaemon(tmp_path / "sock", OBJECTS, slow) as daemon:
            session = Session(Place(daemon.path), PrivateDaemons())
            opened = session.open_url(URL)
            listing = threading.Thread(target=session.list_folder, args=("s3://bucket/slow",))
            listing.start()
            try:
                assert asked.wait(DEADLINE_S)
                session.register(opened, RECIPE)
                session.open_url("s3://bucket/empty")
                assert session.head(URL).size_bytes == len(DATA)
                assert listing.is_alive()
            finally:
                go.set()
                listing.join()
            session.head(URL)
            kinds = [hello.kind for hello in daemon.of(m.Hello)]
            assert kinds == [m.Kind.CONTROL, m.Kind.DATA, m.Kind.CONTROL, m.Kind.CONTROL], "one of two was kept"
            session.close()
            wait_until(lambda: daemon.open_connections() == 0, "connections were left")

    def test_a_request_beside_the_session_is_sent_again_when_its_connection_has_ended(
        self, session: Session, daemon: FakeDaemon
    ) -> None:
        session.open_url(URL)
        assert session.head(URL).size_bytes == len(DATA)
        daemon.stop()
        with FakeDaemon(daemon.path, OBJECTS) as successor:
            assert session.head(URL).size_bytes == len(DATA)
            assert successor.of(m.Head)


class TestSets:
    def test_any_range_of_an_object_is_read_and_its_end_cuts(self, session: Session) -> None:
        opened = session.open_url(URL)
        rng = np.random.default_rng(1)
        for offset, length in [*rng.integers(0, len(DATA), (30, 2)).tolist(), (0, len(DATA)), (len(DATA), 1), (5, 0)]:
            assert opened.read(0, offset, length) == DATA[offset : offset + length]

    def test_an_empty_object_is_a_set_too(self, session: Session) -> None:
        assert session.open_url("s3://bucket/empty").read(0, 0, 100) == b""

    def test_a_set_is_closed_when_nobody_holds_it(self, session: Session, daemon: FakeDaemon) -> None:
        first, second = session.open_url(URL), session.open_url("s3://bucket/deep/er")
        assert (first.number, second.number) == (0, 1)
        del first
        wait_until(lambda: daemon.of(m.CloseSet), "the set is closed")
        assert daemon.of(m.CloseSet) == [m.CloseSet(set=0)]
        assert session.open_url("s3://bucket/empty").number == 0
        assert second.read(0, 0, 1) == b"x"

    def test_a_version_is_opened_once_however_many_ask(self, session: Session) -> None:
        first = session.open_url(URL)
        assert session.open_url(URL, first.etag) is first

    def test_of_another_version_nothing_is_read(self, session: Session) -> None:
        with pytest.raises(OriginChangedError, match="replaced"):
            session.open_url(URL, '"another"')


class TestAnotherDaemon:
    """The daemon ends and another one comes to the same socket."""

    def restarted(self, daemon: FakeDaemon, objects: dict[str, bytes] | None = None) -> FakeDaemon:
        daemon.stop()
        return FakeDaemon(daemon.path, OBJECTS if objects is None else objects)

    def test_sets_are_opened_again_under_their_numbers(self, session: Session, daemon: FakeDaemon) -> None:
        first, second = session.open_url(URL), session.open_url("s3://bucket/deep/er")
        with self.restarted(daemon) as other:
            assert second.read(0, 0, 1) == b"x"
            assert first.read(0, 100, 50) == DATA[100:150]
            opened = [each for each in other.requests if isinstance(each, m.OpenUrl)]
            assert [(each.set, each.url, each.etag) for each in opened] == [
                (first.number, URL, first.etag), (second.number, second_url(OBJECTS), second.etag)]  # fmt: skip

    def test_a_read_that_waits_meanwhile_is_answered(self, session: Session, daemon: FakeDaemon) -> None:
        opened = session.open_url(URL)
        daemon.stop()
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.append(opened.read(0, 7, 1000)))
        reader.start()
        wait_until(lambda: not opened.client.attached, "the client sees the end")
        with FakeDaemon(daemon.path, OBJECTS):
            reader.join(DEADLINE_S)
        assert found == [DATA[7:1007]]

    def test_a_request_whose_connection_has_ended_is_sent_again(self, session: Session, daemon: FakeDaemon) -> None:
        session.head(URL)
        with self.restarted(daemon):
            assert session.head(URL).size_bytes == len(DATA)

    def test_an_object_that_was_replaced_is_an_error_from_then_on(self, session: Session, daemon: FakeDaemon) -> None:
        opened, other = session.open_url(URL), session.open_url("s3://bucket/deep/er")
        with self.restarted(daemon, {**OBJECTS, URL: DATA + b"more"}):
            assert other.read(0, 0, 1) == b"x"
            wait_until(lambda: is_replaced(opened), "the set has failed")
            assert other.read(0, 0, 1) == b"x"

    def test_one_that_fails_to_open_for_now_is_tried_again(self, session: Session, daemon: FakeDaemon) -> None:
        opened = session.open_url(URL)
        daemon.stop()
        failures = 3

        def answer(message: m.Message) -> m.Message | None:
            nonlocal failures
            if isinstance(message, m.OpenUrl) and failures:
                failures -= 1
                raise OriginError("503")
            return None

        with FakeDaemon(daemon.path, OBJECTS, answer):
            assert opened.read(0, 0, 10) == DATA[:10]
        assert failures == 0

    def test_loaders_are_registered_again_at_their_place(self, session: Session, daemon: FakeDaemon) -> None:
        registration = session.register(session.open_url(URL), RECIPE)
        registration.begin(3, 7)
        registration.step(9, 0.25)
        with self.restarted(daemon) as other:
            wait_until(lambda: other.recipes, "registered again")
            wait_until(lambda: data_session(other).page_view().registration, "in the page")
            page = data_session(other).page_view()
            assert (page.registration, page.epoch, page.position) == (registration.number, 3, 9)
            registration.step(11, 0.5)
            assert data_session(other).page_view().position == 11
            assert other.recipes == [RECIPE]

    def test_a_session_that_was_never_attached_fails_at_once(self, tmp_path: Path) -> None:
        session = Session(Place(tmp_path / "nobody"), PrivateDaemons())
        with pytest.raises(DaemonUnavailableError, match="no cache daemon listens there"):
            session.head(URL)

    def test_a_closed_session_says_so(self, session: Session) -> None:
        opened = session.open_url(URL)
        session.close()
        session.close()
        with pytest.raises(DaemonUnavailableError, match="has been closed"):
            session.head(URL)
        with pytest.raises(Exception, match="closed"):
            opened.read(0, 0, 1)


def second_url(objects: dict[str, bytes]) -> str:
    return next(url for url, data in objects.items() if data == b"x")


def is_replaced(opened: RemoteSet) -> bool:
    try:
        opened.read(0, 0, 1)
    except OriginChangedError as error:
        return "replaced" in str(error)
    except DaemonUnavailableError:
        return False
    return False


def data_session(daemon: FakeDaemon) -> object:
    return next(each for each in daemon.sessions if each.is_data)


class TestRegistrations:
    def test_the_place_is_in_the_page_without_a_message(self, session: Session, daemon: FakeDaemon) -> None:
        registration = session.register(session.open_url(URL), RECIPE)
        before = len(daemon.requests)
        registration.begin(3, 7)
        registration.step(9, 0.25)
        registration.step(12, 0.5)
        page = data_session(daemon).page_view()
        assert (page.registration, page.epoch, page.position, page.steps) == (registration.number, 3, 12, 2)
        assert page.exposed_wait_us == 750_000
        assert page.progress_ns <= time.monotonic_ns()
        assert len(daemon.requests) == before
        assert registration.forecast == {"hits": 0.5}

    def test_of_two_loaders_the_one_that_moved_last_is_in_the_page(self, session: Session, daemon: FakeDaemon) -> None:
        opened = session.open_url(URL)
        train, val = session.register(opened, RECIPE), session.register(opened, RECIPE)
        train.begin(3, 7)
        val.begin(0, 0)
        train.step(8, 0.0)
        page = data_session(daemon).page_view()
        assert (page.registration, page.epoch, page.position) == (train.number, 3, 8)
        val.close()
        assert data_session(daemon).page_view().registration == train.number
        train.close()
        assert data_session(daemon).page_view().registration == 0

    def test_one_that_is_closed_or_forgotten_is_unregistered_once(self, session: Session, daemon: FakeDaemon) -> None:
        opened = session.open_url(URL)
        closed, forgotten = session.register(opened, RECIPE), session.register(opened, RECIPE)
        numbers = {closed.number, forgotten.number}
        closed.close()
        closed.close()
        del closed, forgotten
        wait_until(lambda: len(daemon.of(m.Unregister)) == 2, "both are unregistered")
        assert {each.registration for each in daemon.of(m.Unregister)} == numbers


class TestForks:
    def test_a_child_closes_what_is_its_parents_and_has_a_session_of_its_own(self, daemon: FakeDaemon) -> None:
        """The daemon sees the parent's end although the child lives."""
        from fastfeed.wire.sessions import close_sessions, session_at

        place = Place(daemon.path)
        opened = session_at(place).open_url(URL)
        assert opened.read(0, 0, 3) == DATA[:3]
        go_on, told = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.read(go_on[0], 1)
                mine = session_at(place).open_url(URL)
                os.write(told[1], mine.read(0, 5, 4))
                os._exit(0)
            finally:
                os._exit(1)
        close_sessions()
        wait_until(lambda: daemon.open_connections() == 0, "the daemon sees that the parent has gone")
        os.write(go_on[1], b".")
        assert os.read(told[0], 4) == DATA[5:9]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        for descriptor in (*go_on, *told):
            os.close(descriptor)


class TestWrongAnswers:
    def asked(self, tmp_path: Path, answer: Callable[[m.Message], m.Message | None]) -> None:
        with FakeDaemon(tmp_path / "wrong", OBJECTS, answer) as daemon:
            session = Session(Place(daemon.path), PrivateDaemons())
            try:
                session.open_url(URL)
            finally:
                session.close()

    def test_another_version_of_the_protocol_says_what_to_upgrade(self, tmp_path: Path) -> None:
        welcome = m.Welcome(version=m.VERSION + 1, daemon_epoch=1, token=bytes(16))
        with pytest.raises(FormatVersionError, match="Upgrade the older"):
            self.asked(tmp_path, lambda message: welcome)

    def test_an_answer_of_another_kind_is_a_protocol_error(self, tmp_path: Path) -> None:
        with pytest.raises(ProtocolError, match="answered HELLO"):
            self.asked(tmp_path, lambda message: m.Done())
        with pytest.raises(ProtocolError, match="answered OpenUrl with Done"):
            self.asked(tmp_path, lambda message: m.Done() if isinstance(message, m.OpenUrl) else None)

    def test_descriptors_that_do_not_come_are_a_protocol_error(self, tmp_path: Path) -> None:
        opened = m.Opened(objects=1, chunks=3, sizes_hash=bytes(16), descriptors=1)
        with pytest.raises(DaemonUnavailableError, match=r"did not answer in time|closed"):
            with_short_waits(tmp_path, opened)

    def test_sizes_that_differ_are_said(self, tmp_path: Path) -> None:
        from fastfeed.wire.sets import DatasetSet, UrlSet, check_opened

        digest = sizes_hash(np.array([5], np.uint64))
        opened = m.Opened(objects=1, chunks=1, sizes_hash=digest, size_bytes=5, descriptors=1)
        assert check_opened(UrlSet(URL), opened).tolist() == [5]
        with pytest.raises(OriginChangedError, match="had 6 bytes"):
            check_opened(UrlSet(URL, '"e"', np.array([6], np.uint64)), opened)
        with pytest.raises(CorruptDataError, match="was this one replaced"):
            check_opened(DatasetSet(URL, 1, bytes(16), np.array([6], np.uint64)), opened)

    def test_an_error_of_the_daemon_is_the_users(self, tmp_path: Path) -> None:
        denied = Error(code=ErrorCode.DENIED, text="user 5 is in no pool: ask the operator")
        with pytest.raises(ConfigError, match="in no pool"):
            self.asked(tmp_path, lambda message: denied)


def with_short_waits(tmp_path: Path, answer: m.Message) -> None:
    def answer_to(message: m.Message) -> m.Message | None:
        return answer if isinstance(message, m.OpenUrl) else None

    with FakeDaemon(tmp_path / "short", OBJECTS, answer_to) as daemon:
        connection = Connection(daemon.path, time.monotonic() + DEADLINE_S)
        try:
            connection.ask(m.Hello(version_min=1, version_max=1, kind=m.Kind.CONTROL), DEADLINE_S)
            connection.ask(m.OpenUrl(set=0, url=URL, deadline_ms=1), -1.9)
        finally:
            connection.close()


class Listener:
    """A socket whose test answers by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(str(path))
        self.socket.listen(1)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()


class TestConnections:
    def test_a_daemon_that_is_silent_is_given_up_at_the_deadline(self, tmp_path: Path) -> None:
        with Listener(tmp_path / "silent") as listener:
            connection = Connection(listener.path, time.monotonic() + DEADLINE_S)
            began = time.monotonic()
            with pytest.raises(DaemonUnavailableError, match="did not answer in time"):
                connection.ask(m.Ping(), -1.8)
            assert time.monotonic() - began < 5
            connection.close()

    def test_the_answer_to_a_request_that_was_given_up_is_not_taken_for_anothers(self, tmp_path: Path) -> None:
        with Listener(tmp_path / "late") as listener:
            connection = Connection(listener.path, time.monotonic() + DEADLINE_S)
            server, _ = listener.socket.accept()
            with pytest.raises(DaemonUnavailableError):
                connection.ask(m.Head(url="first", deadline_ms=1), -1.9)
            late = unpack_frame(server.recv(1 << 16))
            server.send(m.pack(m.HeadOf(size_bytes=1), late.request))
            server.send(m.pack(m.Leaving(again_ms=5), 0))
            server.send(m.pack(m.HeadOf(size_bytes=2), late.request + 1))
            answer = connection.ask(m.Head(url="second", deadline_ms=1), DEADLINE_S)
            assert answer.message == m.HeadOf(size_bytes=2)
            connection.close()
            server.close()

    def test_descriptors_that_are_too_many_for_the_limit_are_an_error_that_names_it(self, tmp_path: Path) -> None:
        import resource

        with Listener(tmp_path / "many") as listener:
            connection = Connection(listener.path, time.monotonic() + DEADLINE_S)
            server, _ = listener.socket.accept()
            pair = os.pipe()
            socket.send_fds(server, [m.pack(m.Listed(size_bytes=1, files=1, descriptors=1), 1)], [pair[0]] * 16)
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 2, before[1]))
            try:
                with pytest.raises(OSError, match="ulimit") as caught:
                    connection.ask(m.List(url="x", deadline_ms=1), DEADLINE_S)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            assert caught.value.errno == errno.EMFILE
            for descriptor in pair:
                os.close(descriptor)
            connection.close()
            server.close()

    def test_more_than_sixteen_descriptors_come_in_several_messages(self, tmp_path: Path) -> None:
        with Listener(tmp_path / "more") as listener:
            connection = Connection(listener.path, time.monotonic() + DEADLINE_S)
            server, _ = listener.socket.accept()
            pair = os.pipe()
            portions = m.portions([pair[0]] * 35)
            welcome = m.Welcome(version=1, daemon_epoch=1, token=bytes(16), descriptors=35)
            socket.send_fds(server, [m.pack(welcome, 1)], portions[0])
            for portion in portions[1:]:
                socket.send_fds(server, [m.pack(m.More(), 1)], portion)
            answer = connection.ask(m.Hello(version_min=1, version_max=1, kind=2), DEADLINE_S)
            assert len(answer.descriptors) == 35
            assert {os.fstat(each).st_ino for each in answer.descriptors} == {os.fstat(pair[0]).st_ino}
            for descriptor in (*answer.descriptors, *pair):
                os.close(descriptor)
            connection.close()
            server.close()

    def test_a_stranger_who_listens_is_not_believed(self, tmp_path: Path) -> None:
        """A directory that everybody may write to, and somebody else's socket in it."""
        tmp_path.chmod(0o777)
        ready, done = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.chdir(tmp_path)  # the folders above are closed to them
                os.setuid(12345)
                with Listener(Path("theirs")):
                    os.chmod("theirs", 0o666)
                    os.write(ready[1], b".")
                    os.read(done[0], 1)
                os._exit(0)
            finally:
                os._exit(1)
        os.read(ready[0], 1)
        with pytest.raises(ConfigError, match="user 12345 listens there"):
            Connection(tmp_path / "theirs", time.monotonic() + DEADLINE_S)
        os.write(done[1], b".")
        os.waitpid(child, 0)
        for descriptor in (*ready, *done):
            os.close(descriptor)

    def test_a_path_that_is_too_long_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="at most 107 bytes"):
            Connection(tmp_path / ("x" * 200), time.monotonic() + DEADLINE_S)

    def test_who_listens_and_ends_at_once_is_a_lost_connection(self, tmp_path: Path) -> None:
        with Listener(tmp_path / "short") as listener:
            connection = Connection(listener.path, time.monotonic() + DEADLINE_S)
            listener.socket.accept()[0].close()
            with pytest.raises(ConnectionLost):
                connection.ask(m.Ping(), DEADLINE_S)
            connection.close()


class TestPlaces:
    def test_auto_is_the_named_socket_or_the_users_own(self, tmp_path: Path) -> None:
        private = PrivateDaemons()
        named = place_of("auto", {"FASTFEED_CACHE_SOCKET": "/srv/x.sock"}, private)
        assert (named.socket, named.start) == (Path("/srv/x.sock"), Start.NEVER)
        own = place_of("auto", {"FASTFEED_RUNTIME_DIR": str(tmp_path)}, private)
        assert (own.socket, own.start) == (tmp_path / "cache.sock", Start.DETACHED)
        assert place_of("/a/b.sock", {}, private) == Place(Path("/a/b.sock"))
        assert pickle.loads(pickle.dumps(own)) == own

    @pytest.mark.parametrize("cache", ["", "redis", "on"])
    def test_a_cache_that_is_none_is_refused(self, cache: str) -> None:
        with pytest.raises(ConfigError, match="'auto', 'off'"):
            place_of(cache, {}, PrivateDaemons())

    def test_off_is_a_directory_of_this_job_and_goes_with_it(self, tmp_path: Path) -> None:
        private = PrivateDaemons()
        environ = {"FASTFEED_RUNTIME_DIR": str(tmp_path / "run")}
        place = place_of("off", environ, private)
        assert place == place_of("off", environ, private)
        assert place.start is Start.CHILD
        assert place.socket.parent.parent == tmp_path / "run"
        abandoned = tmp_path / "run" / "off-dead"
        abandoned.mkdir()
        (abandoned / "held").touch()
        other = PrivateDaemons()
        assert place_of("off", environ, other).socket != place.socket
        assert not abandoned.exists()
        assert place.socket.parent.exists()
        private.close()
        assert not place.socket.parent.exists()
        other.close()

    def test_the_runtime_directory_is_the_sessions_or_one_of_the_user(self, tmp_path: Path) -> None:
        euid = os.geteuid()
        assert runtime_directory({"XDG_RUNTIME_DIR": str(tmp_path)}, euid) == tmp_path / "fastfeed"
        assert runtime_directory({"XDG_RUNTIME_DIR": str(tmp_path)}, 4711) == Path("/tmp/fastfeed-4711")
        assert runtime_directory({"XDG_RUNTIME_DIR": "/nonexistent"}, euid) == Path(f"/tmp/fastfeed-{euid}")
        assert own_socket({"FASTFEED_RUNTIME_DIR": "/x"}, euid) == Path("/x/cache.sock")

    def test_the_owner_of_a_closed_directory_is_believed_and_of_an_open_one_not(self, tmp_path: Path) -> None:
        path = tmp_path / "sock"
        path.touch()
        os.chown(path, 4711, 4711)
        tmp_path.chmod(0o755)
        assert believed_users(path, 1000) == {1000, 0, 4711}
        tmp_path.chmod(0o1777)
        assert believed_users(path, 1000) == {1000, 0}


def test_answers_that_are_long_come_in_a_memfd(tmp_path: Path) -> None:
    from tests.helpers.fake_daemon import memory_file

    long = json.dumps({"rows": list(range(50_000))}).encode()
    with Listener(tmp_path / "long") as listener:
        session = Session(Place(listener.path), PrivateDaemons())

        def serve() -> None:
            server, _ = listener.socket.accept()
            hello = unpack_frame(server.recv(1 << 16))
            server.send(m.pack(m.Welcome(version=1, daemon_epoch=1, token=bytes(16)), hello.request))
            asked = unpack_frame(server.recv(1 << 16))
            descriptor = memory_file(long)
            socket.send_fds(server, [m.pack(m.Told(size_bytes=len(long), descriptors=1), asked.request)], [descriptor])
            os.close(descriptor)
            server.close()

        thread = threading.Thread(target=serve)
        thread.start()
        assert session.command(m.Command.LS, {}) == json.loads(long)
        thread.join()
        session.close()
