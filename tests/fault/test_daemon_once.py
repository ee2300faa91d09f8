"""An origin serves each byte once, however many processes, jobs and users of the node start on it at the same time.

Counted in nginx's access log. `FASTFEED_COLD_PROCESSES=64` is the default; data and processes are small, for two cores.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import fastfeed as ff
from tests.helpers.cache_daemon import CacheDaemon
from tests.helpers.programs import unmeasured_environment
from tests.helpers.servers import Nginx

PROCESSES = int(os.environ.get("FASTFEED_COLD_PROCESSES", "64"))
ROWS = 1200
USERS = (54321, 54322)
# What a block's edge costs, and rows that are read before their chunks: exact bytes first.
SERVED_MAX = 1.05


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 MB in several shards."""
    folder = tmp_path_factory.mktemp("once")
    draw = random.Random(3)
    schema = ff.Schema({"data": ff.Bytes(), "label": ff.Scalar("int64")})
    with ff.DatasetWriter(folder / "data", schema, shard_size="6MiB") as writer:
        for label in range(ROWS):
            writer.write({"data": label.to_bytes(8, "little") + draw.randbytes(20_000), "label": label})
    return folder


@pytest.fixture
def public_socket() -> Iterator[Path]:
    """A socket that other users may pass to, as that of a system service."""
    folder = Path(tempfile.mkdtemp(prefix="fastfeed-test-", dir="/dev/shm"))
    folder.chmod(0o755)
    yield folder / "cache.sock"
    shutil.rmtree(folder)


def start_cold(url: str, socket: Path, users: Sequence[int], seeds: Sequence[int]) -> None:
    options = {"url": url, "socket": str(socket), "count": PROCESSES, "users": users, "seeds": seeds, "rows": ROWS,
               "sum": sum(range(ROWS))}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.cold_start_program", json.dumps(options)],
        env={**unmeasured_environment(), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout


def served(origin: Nginx) -> Counter[str]:
    """Bytes that nginx sent of each file."""
    sent: Counter[str] = Counter()
    for request in origin.requests():
        if request.method == "GET":
            sent[request.path] += request.sent_bytes
    return sent


def check_served_once(origin: Nginx, dataset: Path) -> None:
    sent = served(origin)
    for kind in ("shards", "_feed/index", "_feed/manifests"):
        files = {f"/data/{kind}/{file.name}": file.stat().st_size for file in (dataset / kind).iterdir()}
        assert files
        for name, size in files.items():
            # Footers are not read by loaders: a little less than all may be served.
            assert sent[name] <= SERVED_MAX * size, f"{name}: {sent[name]} bytes of {size} were served"
    shard_bytes = sum(file.stat().st_size for file in (dataset / "shards").iterdir())
    payload = sum(sent[f"/data/shards/{file.name}"] for file in (dataset / "shards").iterdir())
    print(f"{PROCESSES} processes: {payload / shard_bytes:.3f} of the shards' bytes were served")
    assert payload > 0.9 * shard_bytes


def test_many_processes_that_start_at_once_cause_one_fetch_of_each_byte(data: Path, tmp_path: Path) -> None:
    with Nginx(tmp_path, data) as origin, CacheDaemon(tmp_path / "daemon", limit="64MiB") as daemon:
        start_cold(f"{origin.url}/data", daemon.socket, [0], [1])
        check_served_once(origin, data / "data")


def test_two_jobs_of_two_users_of_one_pool_cause_one_fetch_of_each_byte(
    data: Path, tmp_path: Path, public_socket: Path
) -> None:
    daemon = CacheDaemon(
        tmp_path / "daemon", limit="64MiB", settings=f'socket = "{public_socket}"',
        pool_settings=f"users = {[str(user) for user in (0, *USERS)]}",
    )  # fmt: skip
    daemon.socket = public_socket
    with Nginx(tmp_path, data) as origin, daemon:
        start_cold(f"{origin.url}/data", public_socket, USERS, [1, 2])
        check_served_once(origin, data / "data")
