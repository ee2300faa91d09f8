"""Any tool reads any URL through the node's cache, verified: a file system of fsspec.

`fastfeed://` in front of a URL (fastfeed://s3://bucket/a.parquet) is understood by all that goes through fsspec, once
this module is imported or fastfeed is installed: pandas, pyarrow, HF datasets. `fastfeed.fsspec.open` gives a file to
all the rest. Bytes that come from a slot are checked by its checksums, and a file keeps the version (ETag) that it was
opened with: an object that is replaced meanwhile is an OriginError, never a mixture.

Read-only. Nothing here talks to the origin, so it is safe in processes that fork.
"""

from __future__ import annotations

import os
from typing import Any, NoReturn

import fsspec
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from fastfeed.errors import ConfigError, OriginError
from fastfeed.wire.session import RemoteSet, Session
from fastfeed.wire.sessions import place_for, session_at

PROTOCOL = "fastfeed"
# Read ahead of a reader that goes forward: a chunk, so that each is asked for once.
BLOCK_BYTES = 1 << 20


def open(url: str | os.PathLike[str], mode: str = "rb", *, cache: str | os.PathLike[str] = "auto") -> Any:
    """The object at `url` as a file, opened for reading. mode: "rb", or "r" for UTF-8 text.

    cache: as `fastfeed.open` takes it. FileNotFoundError where there is none.
    """
    return FastfeedFileSystem(cache=os.fspath(cache)).open(os.fspath(url), mode)


class FastfeedFileSystem(AbstractFileSystem):
    """Paths are URLs, with or without "fastfeed://" in front. cache: "auto", "off", or a daemon's socket.

    fsspec's chains work too (fastfeed::s3://bucket/key), where fsspec knows the scheme."""

    protocol = PROTOCOL
    root_marker = ""

    def __init__(
        self, cache: str = "auto", target_protocol: str = "", target_options: Any = None, fo: str = "", **options: Any
    ) -> None:
        """target_protocol, fo: what a chain gives: the scheme of the URL behind it, and the rest of it."""
        if target_options:
            raise ConfigError(f"the cache daemon reads with its own options, not with {sorted(target_options)}: set "
                              "them in its configuration (docs/origins.md).")  # fmt: skip
        super().__init__(cache=cache, target_protocol=target_protocol, fo=fo, **options)
        self._cache = cache
        self._chained = fo if not fo or "://" in fo else f"{target_protocol}://{fo}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        return os.fspath(path).removeprefix(f"{PROTOCOL}://").rstrip("/")

    @classmethod
    def _parent(cls, path: Any) -> str:
        scheme, _, rest = cls._strip_protocol(path).rpartition("://")
        parent = rest.rpartition("/")[0]
        return f"{scheme}://{parent}" if scheme else parent

    # --- what there is ------------------------------------------------------------------------------------------

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """name, size, type, ETag, mtime. FileNotFoundError."""
        url = self._url(path)
        folder = {"name": self._name(path), "size": 0, "type": "directory"}
        try:
            head = self._session().head(url)
        except (FileNotFoundError, OriginError):
            if self._session().list_folder(url, recursive=True):
                return folder
            raise
        # Web servers answer for a folder too, with a page of links or with nothing.
        if head.size_bytes == 0 and self._session().list_folder(url):
            return folder
        return {"name": self._name(path), "size": head.size_bytes, "type": "file", "ETag": head.etag,
                "mtime": head.modified_us / 1e6}  # fmt: skip

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """What is directly in a folder. FileNotFoundError where there is neither folder nor file."""
        name = self._name(path)
        found: dict[str, dict[str, Any]] = {}
        for each, entry in self._below(path).items():
            head, slash, _ = each.removeprefix(f"{name}/").partition("/")
            if slash:
                found[f"{name}/{head}"] = {"name": f"{name}/{head}", "size": 0, "type": "directory"}
            else:
                found[each] = entry
        if not found:
            found = {name: self.info(path)}  # a file is what is in it
        return list(found.values()) if detail else sorted(found)

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **options: Any
    ) -> Any:
        """All files below a folder, from one listing."""
        if maxdepth is not None or withdirs:
            return super().find(path, maxdepth=maxdepth, withdirs=withdirs, detail=detail, **options)
        found = self._below(path) or {self._name(path): self.info(path)}
        return found if detail else sorted(found)

    def glob(self, path: str, maxdepth: int | None = None, **options: Any) -> Any:
        """What fits a pattern, with "fastfeed://" in front: HF datasets takes a name that has a scheme for a whole URL,
        and would read around the cache."""
        found = super().glob(path, maxdepth=maxdepth, **options)
        if isinstance(found, dict):
            return {self.unstrip_protocol(name): entry for name, entry in found.items()}
        return [self.unstrip_protocol(name) for name in found]

    def _below(self, path: str) -> dict[str, dict[str, Any]]:
        name = self._name(path)
        return {
            f"{name}/{file.name}": {"name": f"{name}/{file.name}", "size": file.size_bytes, "type": "file",
                                    "mtime": file.modified_us / 1e6}
            for file in self._session().list_folder(self._url(path), recursive=True)
        }  # fmt: skip

    def modified(self, path: str) -> Any:
        return self.info(path).get("mtime")

    def checksum(self, path: str) -> Any:
        return self.info(path).get("ETag")

    # --- reading ------------------------------------------------------------------------------------------------

    def _open(
        self, path: str, mode: str = "rb", block_size: Any = None, autocommit: bool = True, cache_options: Any = None,
        **options: Any,
    ) -> CachedFile:  # fmt: skip
        if mode != "rb":
            self._refuse(path)
        options.setdefault("cache_type", "readahead")
        return CachedFile(self, path, block_size or BLOCK_BYTES, cache_options, options["cache_type"])

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """Bytes [start, end) of an object; negative numbers count from its end."""
        opened = self.open_set(path)
        first, last, _ = slice(start, end).indices(int(opened.sizes[0]))
        return opened.read(0, first, last - first)

    def open_set(self, path: str) -> RemoteSet:
        """The object, pinned, as the native client reads it."""
        return self._session().open_url(self._url(path))

    def created(self, path: str) -> NoReturn:
        raise NotImplementedError("object stores do not keep when an object was created")

    def _refuse(self, path: str) -> NoReturn:
        raise ConfigError(f"{path}: the node's cache is for reading. Write to the origin itself.")

    def _mkdir(self, path: str) -> NoReturn:
        self._refuse(path)

    mkdir = makedirs = rmdir = _rm = rm_file = cp_file = touch = _mkdir

    def _session(self) -> Session:
        return session_at(place_for(self._cache))

    def _name(self, path: str) -> str:
        return str(self._strip_protocol(path))

    def _url(self, path: str) -> str:
        name = self._name(path) or self._chained
        if "://" not in name:
            raise ConfigError(f"{name!r}: write the whole URL behind {PROTOCOL}://, like {PROTOCOL}://s3://bucket/key.")
        return name


class CachedFile(AbstractBufferedFile):
    """One object, opened for reading. Holds its version; closing it lets the cache forget that somebody reads it."""

    def __init__(self, fs: FastfeedFileSystem, path: str, block_size: int, cache_options: Any, cache_type: str) -> None:
        self._opened: RemoteSet | None = fs.open_set(path)
        super().__init__(fs, path, "rb", block_size, cache_type=cache_type, cache_options=cache_options,
                         size=int(self._opened.sizes[0]))  # fmt: skip

    def _fetch_range(self, start: int, end: int) -> bytes:
        if self._opened is None:
            raise ValueError(f"{self.path}: the file is closed")
        return self._opened.read(0, start, end - start)

    def close(self) -> None:
        """Idempotent."""
        super().close()
        self._opened = None


fsspec.register_implementation(PROTOCOL, FastfeedFileSystem, clobber=True)
