"""The wheel: built from the objects of `make build`, it runs without compiler, headers and system libraries, and beside
other libraries that bring the same codecs.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.repository import ROOT

WHEEL_TIMEOUT_S = 280
IMAGES = [ROOT / "csrc" / "fuzz" / "corpus" / "image" / name
          for name in ("baseline.jpg", "progressive.jpg", "rgb.png", "palette.png", "lossy.webp")]  # fmt: skip
PROGRAM = ROOT / "tests" / "helpers" / "neighbours_program.py"


def importable(module: str) -> bool:
    """A torchvision that does not belong to the torch beside it fails while it is imported, in several ways."""
    try:
        importlib.import_module(module)
    except (ImportError, RuntimeError, OSError):
        return False
    return True


# Pillow and OpenCV are required; torchvision is built for one torch only and joins where it is.
NEIGHBOURS = ["pillow", "opencv", *(["torchvision"] if importable("torchvision.io") else [])]


class Wheel(NamedTuple):
    said: str
    file: Path
    python: Path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    folder = tmp_path_factory.mktemp("wheel")
    environment = folder / "venv"
    command = [sys.executable, ROOT / ".ci" / "wheel.py", "--out", folder / "dist", "--dependencies", "here",
               "--environment", environment]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WHEEL_TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (folder / "dist").glob("fastfeed-*.whl")
    return Wheel(done.stdout, file, environment / "bin" / "python")


@pytest.mark.timeout(300)
def test_a_wheel_trains_where_there_is_no_compiler_and_no_header(wheel: Wheel) -> None:
    assert "trained to 100%" in wheel.said
    assert "hidden by" in wheel.said
    assert wheel.said.splitlines()[-1] == str(wheel.file)


def test_a_wheel_says_which_systems_it_runs_on(wheel: Wheel) -> None:
    assert "-manylinux_2_" in wheel.file.name


def test_a_wheel_has_the_libraries_with_their_licences_and_no_sources(wheel: Wheel) -> None:
    with zipfile.ZipFile(wheel.file) as archive:
        files = archive.namelist()
    for library, licence in (("libjpeg", "libjpeg-turbo"), ("libpng", "libpng"), ("libwebp", "libwebp"),
                             ("libzstd", "zstd")):  # fmt: skip
        assert any(file.startswith(f"fastfeed.libs/{library}") for file in files), library
        assert any(file.endswith(f"licenses/{licence}.txt") for file in files), licence
    modules = {path.stem for path in (ROOT / "fastfeed" / "_native").glob("*.pyx")}
    assert modules == {Path(file).name.split(".")[0] for file in files if file.startswith("fastfeed/_native/")
                       and ".so" in file}  # fmt: skip
    assert not [file for file in files if file.startswith(("tests/", "csrc/")) or file.endswith((".cpp", ".hpp"))]


def rounds_of(python: Path | str, order: Sequence[str], folder: Path) -> dict[str, list[list[str]]]:
    """What neighbours_program.py prints for libraries imported in this order."""
    path = {} if python != sys.executable else {"PYTHONPATH": str(ROOT)}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, PROGRAM, *order, *IMAGES], cwd=folder, env={**environment, **path},
                          capture_output=True, text=True, check=False, timeout=120)  # fmt: skip
    assert done.returncode == 0, f"{order}: {done.stderr}"
    rounds: dict[str, list[list[str]]] = json.loads(done.stdout)
    return rounds


@pytest.mark.parametrize("installed", ["wheel", "in place"])
def test_no_library_meets_the_codecs_of_another(installed: str, wheel: Wheel, tmp_path: Path) -> None:
    """Whoever is imported first, and whoever comes later, the pixels of each are those that it decodes alone."""
    python = wheel.python if installed == "wheel" else sys.executable
    alone = {name: rounds_of(python, [name], tmp_path)[name][0] for name in ["fastfeed", *NEIGHBOURS]}
    orders = [["fastfeed", *NEIGHBOURS], [*reversed(NEIGHBOURS), "fastfeed"]]
    orders += [[first, "fastfeed", second] for first, second in itertools.permutations(NEIGHBOURS, 2)]
    for order in orders:
        for name, rounds in rounds_of(python, order, tmp_path).items():
            assert all(digests == alone[name] for digests in rounds), f"{name} in {order}"
