"""From what a user writes (a path, a URL) to a storage."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from fastfeed.errors import ConfigError, OriginError
from fastfeed.storage.local import LocalStorage
from fastfeed.storage.places import is_remote, scheme_of
from fastfeed.storage.protocol import Storage

if TYPE_CHECKING:
    from fastfeed.storage.remote_storage import RemoteStorage

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# What object stores and web servers are called.
_REMOTE_SCHEMES = {"s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "http", "https", "hf"}


def local_path(url: str | os.PathLike[str]) -> Path:
    """The absolute path that `url` means. OriginError for places that are not on this machine."""
    text = os.fspath(url)
    if not isinstance(text, str) or not text:
        raise ConfigError(f"{url!r} is no place for a dataset: give a path or a URL.")
    match = _SCHEME.match(text)
    if match is None:
        return Path(os.path.abspath(os.path.expanduser(text)))
    scheme = match[1].lower()
    if scheme in _REMOTE_SCHEMES:
        raise OriginError(
            f"{text}: this works on folders of this machine only, and not on {scheme}://. Copy the dataset to a local "
            "or mounted folder and name that."
        )
    if scheme != "file":
        raise ConfigError(f"{text}: unknown scheme {scheme}://. Give a path or a file:// URL.")
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(f"{text}: a file:// URL is on this machine, not on {parts.netloc!r}. Write file:///path.")
    return Path(os.path.abspath(unquote(parts.path)))


def storage_to_write(url: str | os.PathLike[str]) -> Storage:
    """The storage at `url` for who writes, object stores included. Nothing is touched or made."""
    if not is_remote(url):
        return LocalStorage(local_path(url))
    text = os.fspath(url)
    if scheme_of(text) in ("http", "https"):
        raise ConfigError(f"{text}: nothing can be written to a web server. Write to a path, or to s3://, gs:// or "
                          "az://.")  # fmt: skip
    # Imported when it is needed: it brings obstore's event loop.
    from fastfeed.storage.remote_storage import RemoteStorage

    return RemoteStorage(text)


def storage_to_read(url: str | os.PathLike[str]) -> LocalStorage | RemoteStorage:
    """The storage at `url` for a command that looks at every byte, past the cache. Nothing is touched or made."""
    if not is_remote(url):
        return LocalStorage(local_path(url))
    from fastfeed.storage.remote_storage import RemoteStorage

    return RemoteStorage(os.fspath(url))


def storage_at(url: str | os.PathLike[str]) -> LocalStorage:
    """The storage of a folder of this machine. Nothing is touched or made. OriginError for other places: who reads
    those goes through the cache's daemon, and who writes takes `storage_to_write`."""
    return LocalStorage(local_path(url))
