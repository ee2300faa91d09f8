"""What a client cannot do: to others, to the daemon, to what is cached; whoever it is, and whatever it sends."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import random
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastfeed as ff
from fastfeed.daemon.server import STRANGERS_MAX
from fastfeed.errors import FastfeedError
from fastfeed.wire import messages as m
from fastfeed.wire.framing import MESSAGE_BYTES_MAX, ErrorCode
from fastfeed.wire.hot import CHUNK_BYTES, Error, Get, pack_hot
from tests.helpers.forged import LIES, forge
from tests.helpers.programs import unmeasured_environment
from tests.helpers.raw_client import RawClient, RawConnection, header, hello
from tests.helpers.running_daemon import RunningDaemon
from tests.helpers.wire_samples import CONTROL, HOT

DATA = random.Random(7).randbytes(4 * CHUNK_BYTES)
# A request of a well-behaved client, while others do what they can. On one core of a busy machine; alone it is 1 ms.
ANSWER_S_MAX = 3.0
# `FASTFEED_DAEMON_FLOOD=1000000` sends a million.
FLOOD = int(os.environ.get("FASTFEED_DAEMON_FLOOD", "20000"))
FUZZED = int(os.environ.get("FASTFEED_DAEMON_FUZZED", "4000"))
STRANGER = 54321


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RunningDaemon]:
    with RunningDaemon(tmp_path, {"data.bin": DATA}) as running:
        yield running


def memory_bytes(daemon: RunningDaemon) -> int:
    return daemon.call(lambda: daemon.daemon.report().memory_bytes)


def check_served(daemon: RunningDaemon, client: RawClient, seed: int = 0) -> float:
    """Read something as an honest client does; how many seconds the longest answer took."""
    longest, draw = 0.0, random.Random(seed)
    for _ in range(20):
        offset = draw.randrange(len(DATA) - 5000)
        length = min(5000, CHUNK_BYTES - offset % CHUNK_BYTES)
        begun = time.monotonic()
        assert client.read(offset, length) == DATA[offset : offset + length]
        longest = max(longest, time.monotonic() - begun)
    return longest


class TestStrangers:
    """A user outside the pool gets nothing."""

    def test_a_user_of_no_pool_gets_an_error_and_no_descriptor(self, daemon: RunningDaemon) -> None:
        os.chmod(daemon.socket.parent, 0o755)
        os.chmod(daemon.socket, 0o666)
        told = as_user(STRANGER, daemon.socket)
        assert told == {"answer": "Error", "code": int(ErrorCode.DENIED), "descriptors": 0, "ended": True}

    def test_connections_of_one_user_that_say_nothing_keep_no_other_out(self, daemon: RunningDaemon) -> None:
        os.chmod(daemon.socket.parent, 0o755)
        os.chmod(daemon.socket, 0o666)
        silent = connect_silently_as(STRANGER, daemon.socket, STRANGERS_MAX + 8)
        try:
            with RawClient(daemon.socket) as honest:
                honest.open_url(daemon.url("data.bin"))
                assert check_served(daemon, honest) < ANSWER_S_MAX
        finally:
            silent.kill()
            silent.wait()
            assert silent.stdout is not None
            silent.stdout.close()

    def test_the_clients_of_one_user_keep_no_other_user_out(self, tmp_path: Path) -> None:
        flags = {"pools.default.users": "*", "limits.clients": "2"}
        with (RunningDaemon(tmp_path, {"data.bin": DATA}, flags=flags) as daemon, RawClient(daemon.socket),
              RawClient(daemon.socket)):  # fmt: skip
            third = RawConnection(daemon.socket)
            refused, _ = third.ask(hello(m.Kind.CONTROL))
            third.close()
            assert isinstance(refused, Error)
            assert "2 clients of user" in refused.text
            os.chmod(daemon.socket.parent, 0o755)
            assert as_user(STRANGER, daemon.socket)["answer"] == "Welcome"

    def test_nobody_of_another_user_namespace_is_let_in_whatever_the_pool_says(self, tmp_path: Path) -> None:
        with RunningDaemon(tmp_path, {"data.bin": DATA}, flags={"pools.default.users": "*"}) as daemon:
            os.chmod(daemon.socket.parent, 0o755)
            assert as_user(65534, daemon.socket)["code"] == ErrorCode.DENIED
            assert as_user(STRANGER, daemon.socket)["answer"] == "Welcome"

    def test_the_folder_of_an_own_daemon_lets_nobody_in(self, daemon: RunningDaemon) -> None:
        assert stat.S_IMODE(daemon.socket.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600
        for file in (daemon.folder / "disk").rglob("*"):
            assert not file.stat().st_mode & 0o077, file

    def test_another_pool_cannot_be_named(self, daemon: RunningDaemon) -> None:
        connection = RawConnection(daemon.socket)
        answer, _ = connection.ask(hello(m.Kind.CONTROL, pool="theirs"))
        assert isinstance(answer, Error)
        assert answer.code == ErrorCode.DENIED
        connection.close()

    def test_a_pool_with_origins_of_its_own_reads_nothing_else(self, tmp_path: Path) -> None:
        flags = {"pools.default.any_origin": "false", "pools.default.origins.data.url": "s3://bucket/mine"}
        objects = {"mine/a": DATA, "theirs/a": DATA}
        with RunningDaemon(tmp_path, objects, flags=flags) as daemon, RawClient(daemon.socket) as client:
            assert client.open_url(daemon.url("mine/a")).size_bytes == len(DATA)
            for url in ("s3://bucket/theirs/a", "s3://bucket/mine/../theirs/a", "file:///etc/passwd", "s3://bucket/min"):
                answer, descriptors = client.control.ask(m.OpenUrl(set=1, url=url, deadline_ms=9999))
                assert isinstance(answer, Error), url
                assert not descriptors


def as_user(uid: int, path: Path) -> dict[str, object]:
    """What a process of another user is told by HELLO."""
    code = (
        "import json, os, sys; from pathlib import Path\n"
        "from tests.helpers.raw_client import RawConnection, hello\n"
        # By its name in its folder: the folders above a test's are closed to others.
        f"os.chdir({str(path.parent)!r}); os.setgroups([]); os.setgid({uid}); os.setuid({uid})\n"
        f"c = RawConnection(Path({path.name!r})); a, d = c.ask(hello(1))\n"
        "ended = False\n"
        "try:\n"
        "    if type(a).__name__ == 'Error': c.receive()\n"
        "except EOFError: ended = True\n"
        "print(json.dumps({'answer': type(a).__name__, 'code': int(getattr(a, 'code', 0)), 'descriptors': len(d),"
        " 'ended': ended}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=unmeasured_environment(), capture_output=True, text=True,
                          timeout=60, check=True)  # fmt: skip
    told: dict[str, object] = json.loads(done.stdout)
    return told


def connect_silently_as(uid: int, path: Path, count: int) -> subprocess.Popen[bytes]:
    """A process of another user that has made so many connections and says nothing. The caller ends it."""
    code = (
        "import os, socket, sys\n"
        f"os.chdir({str(path.parent)!r}); os.setgroups([]); os.setgid({uid}); os.setuid({uid})\n"
        f"made = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range({count})]\n"
        f"for each in made: each.connect({path.name!r})\n"
        "print('connected', flush=True); import signal; signal.pause()\n"
    )
    made = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert made.stdout is not None
    assert made.stdout.readline() == b"connected\n"
    return made


class TestMalice:
    """A malicious client neither stops the daemon nor starves others."""

    def test_fuzzed_messages_change_nothing_for_others(self, daemon: RunningDaemon) -> None:
        draw = random.Random(11)
        samples = [m.pack(each, 5) for each in CONTROL.values()]
        hot = [pack_hot(each, 5) for each in HOT.values()]
        with RawClient(daemon.socket) as honest:
            honest.open_url(daemon.url("data.bin"))
            attacker = RawClient(daemon.socket)
            for round_number in range(FUZZED):
                on_data = draw.random() < 0.5
                packet = mutated(draw, draw.choice(hot if on_data else samples))
                if packet[:1] == bytes([m.Command.DRAIN]):
                    continue  # this user may ask the daemon to leave
                connection = attacker.data if on_data else attacker.control
                try:
                    connection.socket.send(packet)
                    connection.socket.setblocking(False)
                    receive_all(connection)
                except BlockingIOError:
                    connection.socket.settimeout(20)
                except (EOFError, OSError):
                    attacker.close()
                    attacker = RawClient(daemon.socket)
                if round_number % 500 == 0:
                    assert check_served(daemon, honest) < ANSWER_S_MAX
            attacker.close()
            assert check_served(daemon, honest) < ANSWER_S_MAX

    def test_descriptors_that_a_client_sends_are_dropped(self, daemon: RunningDaemon) -> None:
        before = len(os.listdir("/proc/self/fd"))
        with RawClient(daemon.socket) as client:
            held = len(os.listdir("/proc/self/fd"))
            for number in range(50):
                client.control.send(m.pack(m.Ping(), number), [0, 1, 2])
                client.control.receive()
            # Fewer: what an earlier test had open may be closed meanwhile.
            assert len(os.listdir("/proc/self/fd")) <= held
        daemon.wait(lambda: not daemon.daemon.server.sessions)
        assert len(os.listdir("/proc/self/fd")) <= before

    def test_a_flood_of_requests_starves_nobody(self, daemon: RunningDaemon) -> None:
        """Requests of every kind as fast as they can be sent; answers are read, or the socket would stop the sender."""
        with RawClient(daemon.socket) as honest, RawClient(daemon.socket) as flooding:
            honest.open_url(daemon.url("data.bin"))
            flooding.open_url(daemon.url("data.bin"))
            sent = 0

            def drain() -> None:
                for _ in range(FLOOD):
                    flooding.data.receive()

            def flood() -> None:
                nonlocal sent
                for number in range(FLOOD):
                    flooding.data.send(pack_hot(Get(set=0, object=0, offset=number % 1000, length=1, deadline_ms=9999),
                                                1000 + number))  # fmt: skip
                    sent += 1

            threads = [threading.Thread(target=work) for work in (drain, flood)]
            for thread in threads:
                thread.start()
            longest = 0.0
            while any(thread.is_alive() for thread in threads):
                longest = max(longest, check_served(daemon, honest))
            for thread in threads:
                thread.join()
            assert sent == FLOOD
            assert longest < ANSWER_S_MAX

    def test_who_never_reads_answers_stops_only_itself(self, daemon: RunningDaemon) -> None:
        before_bytes = memory_bytes(daemon)
        with RawClient(daemon.socket) as honest, RawClient(daemon.socket) as deaf:
            honest.open_url(daemon.url("data.bin"))
            deaf.open_url(daemon.url("data.bin"))
            for connection, packet in (
                (deaf.control, m.pack(m.Ask(command=m.Command.STATUS), 1)),
                (deaf.data, pack_hot(Get(set=9, object=0, offset=0, length=1, deadline_ms=9999), 1)),
            ):
                connection.socket.setblocking(False)
                # The daemon has stopped reading, so the socket is full.
                with pytest.raises(BlockingIOError):
                    send_on(connection, packet)
            assert check_served(daemon, honest) < ANSWER_S_MAX
            # The daemon runs in this process, which has held other tests' memory before.
            assert memory_bytes(daemon) - before_bytes < 512 << 20

    def test_many_misses_of_one_client_do_not_hold_back_the_first_of_another(self, tmp_path: Path) -> None:
        big = bytes(64 * CHUNK_BYTES)
        flags, slow = {"origin.in_flight": "2"}, {"get_range": "s" * 80}
        with (
            RunningDaemon(tmp_path, {"big": big, "data.bin": DATA}, flags=flags, scripts=slow) as daemon,
            RawClient(daemon.socket) as greedy,
            RawClient(daemon.socket) as modest,
        ):
            greedy.open_url(daemon.url("big"))
            modest.open_url(daemon.url("data.bin"))
            for chunk in range(0, 64, 2):  # every second: no two of them come in one request
                greedy.get(chunk * CHUNK_BYTES, CHUNK_BYTES // 2)
            greedy.answer()
            assert modest.read(0, 10) == DATA[:10]
            assert daemon.call(lambda: len(daemon.service.sources.find("s3://bucket/big").source.demand)) > 10

    def test_pages_with_nonsense_harm_nobody(self, daemon: RunningDaemon) -> None:
        with RawClient(daemon.socket) as liar:
            page = mmap.mmap(liar.page_fd, 4096)
            for value in (0xFFFFFFFFFFFFFFFF, 1 << 62, 0x8000000000000000):
                page[:] = struct.pack("<Q", value) * 512
                page[:8] = b"FFPAGE01"
                report = daemon.call(lambda: daemon.daemon.report())
                assert report.pools[0].readers.slab_bytes < 1 << 57
                daemon.call(lambda: daemon.service.tick())
            page.close()
            with pytest.raises(PermissionError):
                os.ftruncate(liar.page_fd, 0)

    @pytest.mark.parametrize("packet", [b"", b"\0" * (MESSAGE_BYTES_MAX + 1), header(0x01, 5000), os.urandom(16)])
    def test_a_stranger_packet_ends_that_connection_only(self, daemon: RunningDaemon, packet: bytes) -> None:
        with RawClient(daemon.socket) as honest:
            honest.open_url(daemon.url("data.bin"))
            connection = RawConnection(daemon.socket)
            connection.send(packet)
            with pytest.raises(EOFError):
                receive_all(connection)
            connection.close()
            check_served(daemon, honest)

    def test_a_claim_that_slots_are_bad_takes_no_good_slot_away(self, daemon: RunningDaemon) -> None:
        with RawClient(daemon.socket) as liar:
            liar.open_url(daemon.url("data.bin"))
            liar.read(0, 10)
            daemon.wait(lambda: daemon.service.pool.stats().published_slots == 1)
            for _ in range(5):
                assert liar.read(0, 10, flags=2) == DATA[:10]
            daemon.wait(lambda: daemon.service.keeper.is_idle)
            assert daemon.service.pool.stats().published_slots == 1
            assert daemon.service.pool.stats().counters.quarantined == 0


def send_on(connection: RawConnection, packet: bytes) -> None:
    for _ in range(200_000):
        connection.socket.send(packet)


def receive_all(connection: RawConnection) -> None:
    while True:
        connection.receive()


def mutated(draw: random.Random, packet: bytes) -> bytes:
    changed = bytearray(packet)
    for _ in range(draw.randrange(1, 6)):
        how = draw.randrange(5)
        if how == 0 and changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        elif how == 1:
            del changed[draw.randrange(len(changed) + 1) :]
        elif how == 2:
            changed += draw.randbytes(draw.randrange(64))
        elif how == 3 and len(changed) > 16:
            at = draw.randrange(len(changed) - 8)
            changed[at : at + 8] = struct.pack("<Q", draw.choice([0, 1, 2**32 - 1, 2**63, 2**64 - 1]))
        elif len(changed) >= 8:
            struct.pack_into("<I", changed, 4, max(0, len(changed) - 16))  # a length that is right again
    return bytes(changed[:MESSAGE_BYTES_MAX]) or b"\0"


class TestDescriptors:
    """No descriptor that a client gets can be made to write slabs, words, maps, or what others read."""

    def test_memory_is_sealed_and_files_are_read_only(self, daemon: RunningDaemon) -> None:
        with RawClient(daemon.socket) as client:
            _, (map_fd,) = client.control.ask(m.OpenUrl(set=0, url=daemon.url("data.bin"), deadline_ms=9999))
            for descriptor in (client.ring_fd, map_fd):
                size = os.fstat(descriptor).st_size
                with pytest.raises(PermissionError):
                    mmap.mmap(descriptor, size, access=mmap.ACCESS_WRITE)
                reopened = reopen(descriptor)
                assert reopened is not None
                with pytest.raises(PermissionError):
                    os.pwrite(reopened, b"x", 0)
                with pytest.raises(PermissionError):
                    mmap.mmap(reopened, size, access=mmap.ACCESS_WRITE)
                with pytest.raises(PermissionError):
                    os.ftruncate(reopened, 0)
                with pytest.raises(PermissionError):
                    fcntl.fcntl(reopened, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
                os.close(reopened)
            for descriptor in (client.words_fd, *client.slab_fds):
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.pwrite(descriptor, b"x", 0)

    def test_root_cannot_reopen_slabs_or_words_that_were_opened_through_a_read_only_mount(self, tmp_path: Path) -> None:
        """In a mount namespace of its own; the client is root, too, with every capability."""
        program = Path(__file__).parents[1] / "helpers" / "readonly_mounts_program.py"
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", sys.executable, str(program), str(tmp_path)],
            env=unmeasured_environment(), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"map": "EPERM", "ring": "EPERM", "slab": "EROFS", "words": "EROFS"}

    def test_positions_of_descriptors_are_not_shared(self, daemon: RunningDaemon) -> None:
        with RawClient(daemon.socket) as one, RawClient(daemon.socket) as two:
            os.lseek(one.slab_fds[0], 4096, os.SEEK_SET)
            os.lseek(one.words_fd, 8, os.SEEK_SET)
            assert os.lseek(two.slab_fds[0], 0, os.SEEK_CUR) == 0
            assert os.lseek(two.words_fd, 0, os.SEEK_CUR) == 0


def reopen(descriptor: int) -> int | None:
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
    except PermissionError:
        return None


class TestForgedManifests:
    """A manifest that lies harms only who reads it."""

    def test_neither_fills_nor_fails_what_others_read(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        good = data / "good"
        with ff.DatasetWriter(good, ff.Schema({"data": ff.Bytes()}), shard_size="4MiB") as writer:
            for row in range(100):
                writer.write({"data": random.Random(row).randbytes(50_000)})
        reference = [ff.open(good)[row]["data"] for row in range(0, 100, 7)]
        for name in LIES:
            forge(good, data / name, name)
        with RunningDaemon(tmp_path / "daemon", {}) as daemon:
            daemon.serve_folder(data)
            cache = str(daemon.socket)
            for name in LIES:
                with pytest.raises(FastfeedError):
                    ff.open(daemon.url(name), cache=cache).take(list(range(100)))
                honest = ff.open(daemon.url("good"), cache=cache)
                assert [honest[row]["data"] for row in range(0, 100, 7)] == reference
                with pytest.raises(FastfeedError):
                    ff.open(daemon.url(name), cache=cache).take(list(range(100)))
