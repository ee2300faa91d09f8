"""Which source an input is, from its name and its first folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fastfeed.convert.imagefolder import ImageFolder
from fastfeed.convert.source import Source
from fastfeed.errors import ConfigError

# Kind -> what makes the source from (path, label file).
SOURCES: dict[str, Callable[[Path, Path | None], Source]] = {
    "imagefolder": lambda root, labels: ImageFolder(root=root, labels=labels),
}


def source_of(kind: str, path: Path, *, labels: Path | None) -> Source:
    """The source of `kind` ("auto": the one that fits) over `path`. Touches only the path itself."""
    if kind == "auto":
        kind = detect(path)
    elif kind not in SOURCES:
        raise ConfigError(f"--from {kind}: there is no such source. Known: auto, {', '.join(SOURCES)}.")
    os.stat(path)  # FileNotFoundError, with the name
    if not path.is_dir():
        raise ConfigError(f"{path}: {kind} reads a folder, and this is a file.")
    return SOURCES[kind](path, labels)


def detect(path: Path) -> str:
    """The kind of source that `path` is. ConfigError where it is none that is known."""
    os.stat(path)
    if path.is_dir():
        return "imagefolder"
    raise ConfigError(
        f"{path}: is a file, and no source reads a single {path.suffix or 'unnamed'} file. Give a folder "
        "of images: one folder a class, or with a label file."
    )
