"""The files of an input: one file, all of one kind in a folder, or a brace pattern. Names only; nothing is opened.

Names are relative to `folder`, with '/', in bytewise order (of a pattern: in the order of the pattern). Names
in a folder that begin with a dot or an underscore are skipped, as Spark and Hive mean them.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastfeed.errors import ConfigError
from fastfeed.format.wording import few

# A pattern that gives more names than this is a typing mistake.
PATTERN_NAMES_MAX = 1_000_000
# Names that are nobody's data: of tools, and of Spark's and Hive's own.
HIDDEN = (".", "_")
# A folder link that leads back up is found by its inode; this bounds what is left.
DEPTH_MAX = 64
PATHS_SHOWN = 3
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True)
class InputFile:
    """One file of the input."""

    name: str  # relative to the folder
    size_bytes: int


@dataclass(frozen=True)
class InputFiles:
    """The files of an input, at least one."""

    folder: Path
    files: Sequence[InputFile]
    others: Sequence[str]  # names of files that are of another kind

    @property
    def notes(self) -> list[str]:
        """One line for the user where files were left out."""
        count = len(self.others)
        files = "files" if count > 1 else "file"
        return [f"left out {count:,} {files} of other kinds: {few(self.others, PATHS_SHOWN)}"] if count else []


def find_files(root: Path, suffixes: Sequence[str]) -> InputFiles:
    """The files of `root` that end with one of `suffixes` (any case). ConfigError where there are none."""
    folder = folder_of(root)
    if root == folder:
        names = sorted(name for name, _ in walk(root, HIDDEN))
        wanted = [name for name in names if name.lower().endswith(tuple(suffixes))]
        if not wanted:
            raise ConfigError(f"{root}: holds no file that ends with {', '.join(suffixes)}, at any depth.")
        others = sorted(set(names) - set(wanted))
    else:
        wanted = [os.path.relpath(path, folder) for path in expand(str(root))]
        others = []
    return InputFiles(folder, [InputFile(name, os.stat(folder / name).st_size) for name in wanted], others)


def folder_of(root: Path) -> Path:
    """What names are relative to: the folder itself, that of a file, or that above the first brace."""
    if root.is_dir():
        return root
    if root.exists():
        return root.parent
    while is_pattern(root):
        root = root.parent
    return root


def is_pattern(root: Path) -> bool:
    """Whether the path stands for several files."""
    return BRACES.search(str(root)) is not None and not root.exists()


def expand(pattern: str) -> list[str]:
    """ "a-{08..10}.{tar,zip}" -> six names; a path without braces, or one that exists, stands for itself."""
    if os.path.exists(pattern) or not BRACES.search(pattern):
        return [pattern]
    pieces = BRACES.split(pattern)  # text, inside, text, inside, ..., text
    choices = [[piece] if at % 2 == 0 else alternatives(piece) for at, piece in enumerate(pieces)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > PATTERN_NAMES_MAX:
        raise ConfigError(f"{pattern}: stands for {count:,} files; at most {PATTERN_NAMES_MAX:,}.")
    return ["".join(parts) for parts in itertools.product(*choices)]


def alternatives(inside: str) -> list[str]:
    """ "08..10" -> 08, 09, 10; "a,b" -> a, b."""
    numbers = RANGE.fullmatch(inside)
    if numbers is None:
        return inside.split(",")
    first, last = int(numbers[1]), int(numbers[2])
    if not 0 <= last - first < PATTERN_NAMES_MAX:
        raise ConfigError(f"{{{inside}}}: must count up, over {PATTERN_NAMES_MAX:,} names at most.")
    width = len(numbers[1]) if numbers[1].startswith("0") else 0
    return [f"{number:0{width}}" for number in range(first, last + 1)]


def walk(root: Path, hidden: tuple[str, ...]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(relative path, entry) of all files under `root` but of names that begin with one of `hidden`. Links are
    followed. OSError where a folder or a link cannot be.
    """
    yield from walk_folder(root, "", hidden, ())


def walk_folder(
    root: Path, prefix: str, hidden: tuple[str, ...], above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The files of one folder and of those below it; `above` has the inodes of those above."""
    status = os.stat(f"{root}/{prefix}")
    inode = (status.st_dev, status.st_ino)
    if inode in above or len(above) >= DEPTH_MAX:
        raise ConfigError(
            f"{root}/{prefix}: is a link to a folder above it, or lies more than {DEPTH_MAX} folders "
            "deep. Remove the link."
        )
    with os.scandir(f"{root}/{prefix}") as entries:
        for entry in entries:
            if entry.name.startswith(hidden):
                continue
            path = prefix + require_utf8(root, prefix, entry.name)
            if entry.is_dir():
                yield from walk_folder(root, f"{path}/", hidden, (*above, inode))
            else:
                yield path, entry


def require_utf8(root: Path, prefix: str, name: str) -> str:
    """`name`. ConfigError where it is not UTF-8: names of files become text columns, and parts of messages."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{root}/{prefix}: holds a file whose name is not UTF-8: {os.fsencode(name)!r}. Rename it."
        ) from error
    return name
