"""The check for what tests leave behind sees each kind of thing."""

from __future__ import annotations

import subprocess
import sys
import threading
from multiprocessing import shared_memory
from pathlib import Path

from tests.helpers import leftovers


def test_a_running_child_is_found_by_its_command_line_and_a_finished_one_is_not() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert any(f"process {child.pid} " in line for line in leftovers.child_processes())
    finally:
        child.communicate(b"\n")
    assert not any(f"process {child.pid} " in line for line in leftovers.child_processes())


def test_a_thread_is_found_by_its_name() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="forgotten")
    thread.start()
    try:
        assert "thread forgotten" in leftovers.threads()
    finally:
        release.set()
        thread.join()
    assert "thread forgotten" not in leftovers.threads()


def test_a_file_and_a_shared_memory_segment_are_found(tmp_path: Path) -> None:
    before = leftovers.shared_memory_names()
    segment = shared_memory.SharedMemory(create=True, size=16)
    try:
        (tmp_path / "forgotten").touch()
        (tmp_path / "pymp-kept").touch()
        found = leftovers.find(tmp_path, before)
        assert "file forgotten" in found
        assert f"shared memory {segment.name}" in found
        assert "file pymp-kept" not in found
    finally:
        segment.close()
        segment.unlink()
