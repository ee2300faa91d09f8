"""Image folders for tests of converting: real photographs in all three encodings, and a command to run on them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.helpers.photographs import encode, photograph
from tests.helpers.repository import ROOT


def encoded(name: str, number: int, encoding: str, size: tuple[int, int] = (96, 72)) -> bytes:
    """Crop `number` of a photograph, as a JPEG, PNG or WEBP file: the same bytes every time."""
    source = photograph(name)
    left, top = (number * 37) % (source.width - size[0]), (number * 23) % (source.height - size[1])
    return encode(source.crop((left, top, left + size[0], top + size[1])), format=encoding)


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write each file at its relative path."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def class_files(per_class: int = 3) -> dict[str, bytes]:
    """Three classes, one an encoding."""
    kinds = {"cat": ("chelsea", "JPEG", "jpg"), "coffee": ("coffee", "PNG", "png"), "sky": ("rocket", "WEBP", "webp")}
    return {
        f"{label}/{number:03}.{extension}": encoded(name, number, encoding)
        for label, (name, encoding, extension) in kinds.items()
        for number in range(per_class)
    }


def fastfeed(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m fastfeed` as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "fastfeed", *map(str, arguments)],
        cwd=cwd,
        env=command_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def command_environment() -> dict[str, str]:
    """Ours, with this checkout in front."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "120"}
