"""Where a URL leads: the origin that serves it, and the path there. Pure: nothing is touched."""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from fastfeed.errors import ConfigError

# What people write -> what it is.
SCHEMES = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "azure": "az",
    "abfs": "az",
    "abfss": "az",
    "http": "http",
    "https": "https",
    "file": "file",
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ACCOUNT = re.compile(r"(?P<container>[^@/]+)@(?P<account>[^./]+)\.(dfs|blob)\..+")


class Place(NamedTuple):
    """root: the origin, without a "/" at its end. path: below it, without a "/" at either end. bucket: or container;
    "" for web servers and files. account: of Azure, where the URL names it."""

    scheme: str  # a value of SCHEMES
    root: str
    path: str
    bucket: str = ""
    account: str = ""


def scheme_of(url: str | os.PathLike[str]) -> str:
    """One of SCHEMES' values; "" for a path. ConfigError for a scheme that we do not know."""
    text = os.fspath(url)
    match = _SCHEME.match(text) if isinstance(text, str) else None
    if match is None:
        return ""
    scheme = SCHEMES.get(match[1].lower())
    if scheme is None:
        raise ConfigError(f"{text}: unknown scheme {match[1]}://. Give a path, or a URL that begins with one of "
                          f"{', '.join(f'{each}://' for each in SCHEMES)}.")  # fmt: skip
    return scheme


def is_remote(url: str | os.PathLike[str]) -> bool:
    """Whether `url` is in an object store or on a web server."""
    return scheme_of(url) not in ("", "file")


def place_of(url: str) -> Place:
    """The place of a URL. ConfigError where it is none that can be reached."""
    scheme = scheme_of(url)
    if scheme == "":
        raise ConfigError(f"{url!r} is no URL: write file:///path for a path.")
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise ConfigError(f"{url.partition('?')[0]}: a URL with a query or fragment names one answer, no place. Signed "
                          "URLs cannot be read; give credentials, or make the objects public.")  # fmt: skip
    if parts.username is not None and scheme in ("http", "https"):
        raise ConfigError(f"{parts.scheme}://{parts.hostname}: no user or password in a URL: it would be in logs.")
    path = clean_path(unquote(parts.path) if scheme in ("http", "https", "file") else parts.path, url)
    if scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise ConfigError(f"{url}: a file:// URL is on this machine, not on {parts.netloc!r}. Write file:///path.")
        return Place("file", "file://", path)
    if not parts.netloc:
        raise ConfigError(f"{url}: names no {'host' if scheme.startswith('http') else 'bucket'}.")
    if scheme.startswith("http"):
        return Place(scheme, f"{scheme}://{parts.netloc.lower()}", path)
    if found := _ACCOUNT.fullmatch(parts.netloc):
        root = f"abfss://{parts.netloc}"
        return Place("az", root, path, found["container"], found["account"])
    return Place(scheme, f"{scheme}://{parts.netloc}", path, parts.netloc)


def clean_path(path: str, url: str) -> str:
    """Without empty parts at the ends. ConfigError for parts that could lead elsewhere."""
    path = path.strip("/")
    if any(part in ("", ".", "..") for part in path.split("/")) and path:
        raise ConfigError(f"{url}: write the path without empty parts, '.' and '..'.")
    return path
