"""What one job does to another on a full cache, with real processes: one that is stopped in the middle of its epoch,
and one that evaluates again and again.

A training reads epoch after epoch through a cache of a quarter of its data. What it costs is what its origin gives, and
what the disk writes. `FASTFEED_PROOF_EVALUATIONS=1000 python -m pytest -s tests/fault/test_cache_jobs.py` evaluates a
thousand times.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fastfeed._native.cache import SLOT_BYTES
from tests.helpers.cache_daemon import CacheDaemon
from tests.helpers.cache_readers import Readers, write_dataset, write_sums
from tests.helpers.faulty_http import FaultyHttp

EVALUATIONS = int(os.environ.get("FASTFEED_PROOF_EVALUATIONS", "40"))
ROWS, ROW_BYTES, LIMIT = 2400, 20_000, "12MiB"
EVALUATION_ROWS = 50
# A window of a few blocks of a chunk each, so that the blocks in use fill a part of the cache only.
LOADER = {"block_rows": 50, "shuffle_window": 4, "prefetch": "2MiB"}
# An epoch of two seconds: the daemon looks at the jobs' places once a second.
DAWDLE_MS = 20
EPOCHS = 2  # that are counted, after as many
STOPPED_COST_MAX = 1.05
# Chunks by which what a training writes may differ from one time to another: all slots once. Evaluations that were kept
# would write as many as there are passes.
OWN_WRITES_MAX = 12
WAIT_S = 120.0


@dataclass
class Node:
    """A daemon, an origin, and a training that has filled the cache."""

    origin: FaultyHttp
    daemon: CacheDaemon
    training: Readers
    options: dict[str, Any]
    folder: Path

    def other(self, how: str, dataset: str, seed: int) -> Readers:
        """Another process beside the training."""
        return Readers(1, self.folder / f"{how}.log", **{**self.options, "how": how, "seed": seed,
                       "url": f"{self.origin.url}/{dataset}", "sums": str(self.folder / f"{dataset}.npy")})  # fmt: skip

    def origin_share(self) -> float:
        """Bytes of the origin by bytes that the training reads, over its next epochs."""
        fetched, read = self.origin.counts()["bytes"], self.training.checks
        self.training.wait_for(read + EPOCHS * ROWS, WAIT_S)
        return (self.origin.counts()["bytes"] - fetched) / (self.training.checks - read) / ROW_BYTES

    def written_chunks(self) -> float:
        """Since the start."""
        written: int = self.daemon.pool()["written_bytes_today"]
        return written / SLOT_BYTES


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    for name, rows in (("train", ROWS), ("evaluation", EVALUATION_ROWS)):
        dataset = write_dataset(tmp_path / "origin" / name, rows, ROW_BYTES, shard_size="8MiB", seed=rows)
        write_sums(dataset, tmp_path / f"{name}.npy")
    with FaultyHttp(tmp_path / "origin") as origin, CacheDaemon(tmp_path / "cache", limit=LIMIT) as daemon:
        options = {"how": "loader", "url": f"{origin.url}/train", "sums": str(tmp_path / "train.npy"), "seed": 1,
                   "dawdle_ms": DAWDLE_MS, "loader": LOADER, "socket": str(daemon.socket)}
        with Readers(1, tmp_path / "training.log", **options) as training:
            training.wait_for(EPOCHS * ROWS, WAIT_S)
            yield Node(origin, daemon, training, options, tmp_path)
            training.finish()
            assert (training.wrong, training.errors) == ([], {}), training.last_error()


def test_a_job_that_is_stopped_costs_the_other_at_most_a_twentieth(node: Node) -> None:
    alone = node.origin_share()
    with node.other("loader", "train", seed=2) as stopped:
        stopped.wait_for(ROWS // 2, WAIT_S)
        for pid in stopped.pids:
            os.kill(pid, signal.SIGSTOP)
        beside = node.origin_share()
        jobs = node.daemon.pool()["jobs"]
    print(f"of the training's bytes {alone:.3f} come from the origin while it is alone, {beside:.3f} beside the other")
    assert len(jobs) == 2, "the stopped job is no job any more: this proves nothing"
    assert alone < 1, "nothing hits: this proves nothing"
    assert beside <= STOPPED_COST_MAX * alone


def test_evaluations_beside_a_training_write_nothing(node: Node) -> None:
    """However often they come: each pass has a loader of its own, and reads all of its data. What is written is as much
    as the training alone lets be written in as many steps."""
    before, read = node.written_chunks(), node.training.checks
    node.training.wait_for(read + EPOCHS * ROWS, WAIT_S)
    alone = (node.written_chunks() - before) / (node.training.checks - read)
    before, read = node.written_chunks(), node.training.checks
    kept = []
    with node.other("evaluation", "evaluation", seed=3) as evaluation:
        while (passes := evaluation.checks / EVALUATION_ROWS) < EVALUATIONS or node.training.checks < read + ROWS:
            evaluation.wait_for(evaluation.checks + 1, WAIT_S)
            sets = node.daemon.command("ls")["sets"]
            kept += [each["cached_chunks"] for each in sets if each["url"].endswith("/evaluation")]
        steps, written = node.training.checks - read, node.written_chunks() - before
        evaluation.finish()
    print(f"{passes:.0f} evaluations in {steps} samples of the training: {written:.0f} chunks written, "
          f"{alone * steps:.0f} in as many samples without them; in {len(kept)} looks at most {max(kept)} chunks of an "
          "evaluation were kept")
    assert (evaluation.wrong, evaluation.errors) == ([], {}), evaluation.last_error()
    assert max(kept) == 0
    assert written <= alone * steps + OWN_WRITES_MAX
