"""Which source an input is: from the names of its files, and where they say nothing from its first bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fastfeed.convert import jsonl, parquet, webdataset
from fastfeed.convert.files import HIDDEN, expand, is_pattern, walk
from fastfeed.convert.imagefolder import EXTENSIONS, ImageFolder
from fastfeed.convert.shrink import require_pillow
from fastfeed.convert.source import Source
from fastfeed.convert.wanted import Wanted
from fastfeed.errors import ConfigError

# Kind -> what makes the source from (path, label file, what the user wants of it).
SOURCES: dict[str, Callable[[Path, Path | None, Wanted], Source]] = {
    "imagefolder": lambda root, labels, wanted: ImageFolder(root=root, labels=labels, wanted=wanted),
    "webdataset": lambda root, _, wanted: webdataset.WebDataset(root=root, wanted=wanted),
    "parquet": lambda root, _, wanted: parquet.Parquet(root=root, wanted=wanted),
    "jsonl": lambda root, _, wanted: jsonl.Jsonl(root=root, wanted=wanted),
}
# What files of each kind end with.
SUFFIXES = {
    "imagefolder": EXTENSIONS,
    "webdataset": webdataset.SUFFIXES,
    "parquet": parquet.SUFFIXES,
    "jsonl": jsonl.SUFFIXES,
}
# Enough for the mark of a tar, at byte 257.
HEAD_BYTES = 512


def source_of(kind: str, path: Path, *, labels: Path | None = None, wanted: Wanted | None = None) -> Source:
    """The source of `kind` ("auto": the one that fits) over `path`. Touches names and first bytes only."""
    wanted = wanted or Wanted()
    if kind == "auto":
        kind = "imagefolder" if labels is not None else detect(path)
    elif kind not in SOURCES:
        raise ConfigError(f"--from {kind}: there is no such source. Known: auto, {', '.join(SOURCES)}.")
    if not is_pattern(path):
        os.stat(path)  # FileNotFoundError, with the name
    if kind == "imagefolder":
        if not path.is_dir():
            raise ConfigError(f"{path}: {kind} reads a folder, and this is a file.")
    elif labels is not None:
        raise ConfigError(f"--labels {labels}: is for a folder of images; {kind} has its labels in columns.")
    if wanted.image_size is not None:
        require_pillow()
    return SOURCES[kind](path, labels, wanted)


def detect(path: Path) -> str:
    """The kind of source that `path` is. ConfigError where it is none that is known, or could be several."""
    if is_pattern(path):
        path = Path(expand(str(path))[0])
    os.stat(path)
    return kind_of_folder(path) if path.is_dir() else kind_of_file(path)


def kind_of_folder(path: Path) -> str:
    """The kind of files that a folder holds. Label files may lie beside images."""
    counts = dict.fromkeys(SUFFIXES, 0)
    for name, _ in walk(path, HIDDEN):
        for kind, suffixes in SUFFIXES.items():
            counts[kind] += name.lower().endswith(suffixes)
    found = [kind for kind, count in counts.items() if count]
    if "imagefolder" in found and "jsonl" in found:
        found.remove("jsonl")
    if len(found) > 1:
        what = " and ".join(f"{counts[kind]:,} files for {kind}" for kind in found)
        raise ConfigError(f"{path}: holds {what}. Say which with --from {found[0]}.")
    # An empty folder is a folder of images: its error says what is missing, and what could be given instead.
    return found[0] if found else "imagefolder"


def kind_of_file(path: Path) -> str:
    """The kind of one file."""
    for kind, suffixes in SUFFIXES.items():
        if kind != "imagefolder" and path.name.lower().endswith(suffixes):
            return kind
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head[:4] == b"PAR1":
        return "parquet"
    if head[257:262] == b"ustar":
        return "webdataset"
    if head.removeprefix(jsonl.BYTE_ORDER_MARK).lstrip()[:1] == b"{":
        return "jsonl"
    raise ConfigError(
        f"{path}: is no tar, Parquet or JSONL file, by its name and its first bytes, and no folder of images. "
        f"Say what it is with --from {', '.join(SOURCES)}."
    )
