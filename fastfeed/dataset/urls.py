"""The URLs of a remote dataset's files: the one rule by which a client and its daemon find the same objects. Pure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from fastfeed.errors import ConfigError


def dataset_url(url: str) -> str:
    """The dataset's URL in its one spelling: without a slash at its end."""
    return url.rstrip("/")


def file_url(path: str | os.PathLike[str]) -> str:
    """An absolute path of this machine, as a URL."""
    return "file://" + quote(os.fsencode(Path(path).absolute()))


def object_url(url: str, path: str) -> str:
    """The URL of a shard that the manifest of the dataset at `url` names by `path`: relative to the dataset, another
    URL, or an absolute path, which only means something where the manifest itself lies on this machine."""
    if "://" in path:
        return path
    if not path.startswith("/"):
        return f"{url}/{path}"
    if url.startswith("file://"):
        return file_url(path)
    raise ConfigError(
        f"{url}: names the shard {path}, a path of the machine that made it. Upload that dataset, "
        "too, and merge from there."
    )


def object_urls(url: str, paths: Sequence[str]) -> list[str]:
    """The URLs of all shards, in the manifest's order."""
    return [object_url(url, path) for path in paths]
