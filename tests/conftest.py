"""What holds for every test: nothing is skipped where everything can run, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.helpers import leftovers

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def pytest_configure() -> None:
    """A shell ignores Ctrl-C for what it starts in the background, and children inherit that: such tests would hang."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _no_skips_as_root((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _no_skips_as_root((yield))


def _no_skips_as_root(report: Report) -> Report:
    """Root can install and mount whatever a test needs, so a skip there would only hide a broken set-up."""
    if report.skipped and os.geteuid() == 0 and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, although we are root and all can run here: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Temporary files go to a folder that must be empty at the end; no child or thread may remain."""
    temporary = tmp_path_factory.mktemp("TMPDIR")
    shared_memory = leftovers.shared_memory_names()
    previous = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = None  # asked for again, by us and by every child process
    yield
    if previous is None:
        del os.environ["TMPDIR"]
    else:
        os.environ["TMPDIR"] = previous
    tempfile.tempdir = None
    found = leftovers.find(Path(temporary), shared_memory)
    assert not found, "the tests left behind: " + "; ".join(found)
