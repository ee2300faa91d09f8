"""`pip install` works from a checkout and from an sdist, with nothing but the files that git tracks.

Each install goes into a virtual environment of its own that sees this one's packages, so that only fastfeed itself
is built. The checkout is given our objects. The sdist compiles, with as little optimisation as a debug build has,
which is quicker and shows as well that it is whole.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.helpers.repository import ROOT, tracked_files

# The sdist compiles for minutes where other work goes on beside it.
BUILD_TIMEOUT_S = 900
pytestmark = pytest.mark.timeout(2 * BUILD_TIMEOUT_S)


def run(*command: str | Path, cwd: Path, debug: bool = False) -> str:
    """Run a command away from this checkout. What it prints is the message if it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "FASTFEED_DEBUG")}
    environment.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_ROOT_USER_ACTION="ignore")
    if debug:
        environment["FASTFEED_DEBUG"] = "1"
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=BUILD_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def environment_with_our_packages(folder: Path) -> Path:
    """A new virtual environment. It finds numpy and the rest here, but not this checkout: .pth files do not chain."""
    venv.create(folder, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    (site / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def install(source: Path, folder: Path, debug: bool = False) -> Path:
    """Install from a folder or an archive; return the environment's interpreter."""
    python = environment_with_our_packages(folder / "venv")
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "-q",
        "--no-deps", "--no-build-isolation", "--no-cache-dir", "--ignore-installed", source,
        cwd=folder, debug=debug,
    )  # fmt: skip
    return python


def check(python: Path, folder: Path) -> None:
    """The installed package is the one that runs: library and command."""
    program = "import fastfeed; fastfeed.Order(10); print(fastfeed.__version__); print(fastfeed.__file__)"
    version, file = run(python, "-c", program, cwd=folder).split()
    assert Path(file).is_relative_to(folder / "venv")
    assert version in run(python.parent / "fastfeed", "--version", cwd=folder)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files, with their times, and nothing else."""
    folder = tmp_path_factory.mktemp("checkout")
    for file in tracked_files():
        target = folder / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
    return folder


def test_an_install_from_an_sdist_compiles_and_works(checkout: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, checkout, cwd=tmp_path)
    (archive,) = tmp_path.glob("fastfeed-*.tar.gz")
    check(install(archive, tmp_path, debug=True), tmp_path)


def test_an_install_from_a_checkout_works(checkout: Path, tmp_path: Path) -> None:
    objects = [*(ROOT / "build").glob("core-*"), *(ROOT / "build").glob("modules-*")]
    assert objects, "no objects in build/: run `make build`"
    for folder in objects:
        shutil.copytree(folder, checkout / "build" / folder.name, copy_function=shutil.copy2)
    for generated in (ROOT / "fastfeed" / "_native").glob("*.cpp"):
        shutil.copy2(generated, checkout / "fastfeed" / "_native")
    check(install(checkout, tmp_path), tmp_path)


def test_importing_fastfeed_brings_in_neither_torch_nor_pyarrow_nor_the_core() -> None:
    heavy = ("torch", "pyarrow", "numpy", "fastfeed._native")
    program = f"import sys, fastfeed; print([name for name in {heavy} if name in sys.modules])"
    assert run(sys.executable, "-c", program, cwd=ROOT).strip() == "[]"
