"""The test programs and fuzz targets of the core, built and run as a developer would."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

RUNNER = Path(__file__).resolve().parents[2] / "csrc" / "tests" / "run.py"


@pytest.fixture(scope="module")
def runner() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("native_runner", RUNNER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]


@pytest.mark.timeout(600)  # the first run compiles the whole core
def test_every_native_program_passes() -> None:
    # Objects are kept in build/, as those of the extension modules are: only the first run compiles.
    done = subprocess.run([sys.executable, str(RUNNER), "--mutate", "500"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_crc32c" in done.stdout
    assert "fuzz_frame" in done.stdout


def test_every_fuzz_target_has_a_corpus(runner: ModuleType) -> None:
    targets = [program for program in runner.programs(1, 0) if program.name.startswith("fuzz_")]
    assert {target.name for target in targets} >= {"fuzz_frame", "fuzz_header", "fuzz_shard", "fuzz_zstd"}
    for target in targets:
        assert any(Path(target.arguments[0]).iterdir()), target.name


def test_a_name_that_no_program_has_is_an_error() -> None:
    command = [sys.executable, str(RUNNER), "--only", "no such"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no program's name contains 'no such'" in done.stderr


def test_the_runner_builds_what_setup_builds(runner: ModuleType) -> None:
    flags = runner.isa_flags()
    assert flags["_sse42"][0] == "x86_64"
    names = {path.name for path, _ in runner.core_sources(flags)}
    assert {"crc32c.cpp", "frame.cpp", "zstd.cpp", "epoch_order.cpp"} <= names
    assert not any(name.startswith(("test_", "fuzz_")) for name in names)
