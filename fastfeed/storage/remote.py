"""Object stores and web servers by obstore: one attempt a call. Nothing above imports this before a URL needs it.

obstore is not fork-safe: a process that has used it, and forks, has children in which it hangs. It runs in the daemon,
in writers and in commands, never in a process that trains. Its own retries are off (`steady.py` has ours), but for the
parts of an upload in parts, which only it can repeat.

What obstore leaves to us: the ETag is compared with what was pinned (a server may ignore If-Match); the length of a
body is checked; Retry-After is not handed on, so a throttled origin is asked for it once by a plain request.
"""

from __future__ import annotations

import asyncio
import configparser
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from fastfeed.errors import ConfigError, OriginChangedError, OriginDeniedError, OriginError
from fastfeed.storage.failures import TransientOriginError, no_such_object, object_exists
from fastfeed.storage.file_origin import require_same
from fastfeed.storage.options import OriginOptions
from fastfeed.storage.places import Place
from fastfeed.storage.plain_http import PAGE_BYTES_MAX, folder_url, listed_in, request, retry_after_s
from fastfeed.storage.protocol import Listed, ObjectInfo, Piece

if TYPE_CHECKING:
    from obstore import GetOptions

Store = S3Store | GCSStore | AzureStore | HTTPStore
# A larger object is uploaded in parts: one request of this size is repeated whole when it fails.
PART_BYTES = 16 << 20
UPLOAD_IN_PARTS_BYTES = 64 << 20
PARTS_IN_FLIGHT_MAX = 4
LIST_PAGE = 1000
# Metadata of an object that we made if it was absent: what a repeated attempt knows its own by. A name that S3, GCS
# and Azure all take.
TAG_KEY = "fastfeedtag"
# What comes back from a plain request for Retry-After is a header; nobody waits long for that.
RETRY_AFTER_TIMEOUT_S = 5.0
RETRY_AFTER_AGAIN_S = 1.0
SIGNED_FOR = timedelta(seconds=60)
ALLOW_HTTP_VARIABLES = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
_STATUS = re.compile(r"status code: (\d{3}) ?([A-Za-z ]*)")
_CODE = re.compile(r"<Code>([^<]{1,100})</Code>")
_MESSAGE = re.compile(r"<Message>([^<\n\\]{1,300})")
# What is shown -> what obstore's text has.
_KINDS = {
    "no such host": "dns error",
    "connection refused": "Connection refused",
    "connection reset": "Connection reset",
    "timed out": "TimedOut",
    "certificate": "invalid peer certificate",
}
_QUERY = re.compile(r"\?[^\s)\"']+")
# Answers that say: not now. 408, 425 and the 5xx without a meaning of their own.
_NOT_NOW = {408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
_THROTTLED = {429, 503}
# Answers that have less than was asked for.
_PAST_THE_END = re.compile(r"Wanted range starting at|UnexpectedRange")
# Where clouds keep the identity of a machine; asked where there are no other credentials.
_IDENTITY = re.compile(r"169\.254\.169\.254|metadata\.google\.internal|token request")
_EXPIRED = re.compile(r"ExpiredToken|TokenRefreshRequired|InvalidToken|expired", re.IGNORECASE)


class RemoteOrigin:
    """One bucket, container or web server. Used from one event loop."""

    def __init__(self, place: Place, options: OriginOptions) -> None:
        self._place = place
        self._options = options
        self._store = _store(place, options, retries=0)
        self._credentials_ns = self._credentials_changed_ns()
        self._asking: asyncio.Task[float] | None = None  # the last plain request for Retry-After
        self._asked_at_s = 0.0

    @property
    def url(self) -> str:
        return self._place.root

    async def head(self, path: str) -> ObjectInfo:
        try:
            return _info(await obstore.head_async(self._store, path))
        except (BaseError, OSError, ValueError) as error:
            await self._fail(error, path)

    async def get_range(self, path: str, start: int, stop: int, *, etag: str | None = None) -> Piece:
        try:
            answer = await obstore.get_async(self._store, path, options=_range(start, stop, etag))
            info = _info(answer.meta)
            require_same(f"{self.url}/{path}", info, etag, stop)
            data = memoryview(await answer.bytes_async())
        except (BaseError, OSError, ValueError) as error:
            await self._fail(error, path, etag)
        if len(data) != stop - start:
            raise TransientOriginError(f"a body of {len(data)} bytes came where {stop - start} were wanted")
        return Piece(data, info)

    async def list(self, prefix: str, *, recursive: bool = False) -> AsyncIterator[Listed]:
        if isinstance(self._store, HTTPStore):
            async for each in self._web_listing(prefix.strip("/"), recursive):
                yield each
            return
        folder = prefix.strip("/")
        try:
            if recursive:
                async for page in obstore.list(self._store, folder or None, chunk_size=LIST_PAGE):
                    for meta in page:
                        yield _listed(meta)
            else:
                answer = await obstore.list_with_delimiter_async(self._store, folder or None)
                for meta in answer["objects"]:
                    if meta["path"] != folder:  # some services keep empty objects that stand for folders
                        yield _listed(meta)
        except FileNotFoundError:
            return
        except (BaseError, OSError, ValueError) as error:
            await self._fail(error, prefix)

    async def put(self, path: str, data: bytes | memoryview, *, if_absent: bool = False, tag: str = "") -> None:
        if isinstance(self._store, HTTPStore):
            raise ConfigError(f"{self.url}/{path}: nothing can be written to a web server. Write to a path or to "
                              "s3://, gs:// or az://.")  # fmt: skip
        try:
            if if_absent or len(data) <= UPLOAD_IN_PARTS_BYTES:
                await obstore.put_async(
                    self._store,
                    path,
                    data,
                    mode="create" if if_absent else "overwrite",
                    attributes={TAG_KEY: tag} if tag else None,
                    use_multipart=False,
                )
            else:
                await obstore.put_async(
                    _store(self._place, self._options, retries=self._options.retries_max),
                    path,
                    data,
                    use_multipart=True,
                    chunk_size=PART_BYTES,
                    max_concurrency=PARTS_IN_FLIGHT_MAX,
                )
        except AlreadyExistsError as error:
            if not (tag and await self._has_tag(path, tag)):
                raise object_exists(self.url, path) from error
        except (BaseError, OSError, ValueError) as error:
            await self._fail(error, path)

    async def delete(self, path: str) -> None:
        try:
            await obstore.delete_async(self._store, path)
        except FileNotFoundError:
            return
        except (BaseError, OSError, ValueError) as error:
            await self._fail(error, path)

    async def close(self) -> None:
        """obstore closes connections that are idle by itself."""
        if self._asking is not None:
            self._asking.cancel()

    async def _has_tag(self, path: str, tag: str) -> bool:
        try:
            answer = await obstore.get_async(self._store, path, options={"head": True})
        except (BaseError, OSError, ValueError) as error:
            await self._fail(error, path)
        return {name.lower(): value for name, value in answer.attributes.items()}.get(TAG_KEY) == tag

    async def _web_listing(self, prefix: str, recursive: bool) -> AsyncIterator[Listed]:
        folders = [prefix]
        while folders:
            folder = folders.pop()
            url = folder_url(self.url, folder)
            reply = await asyncio.to_thread(request, url, self._options.timeout_s, body_bytes_max=PAGE_BYTES_MAX)
            if reply.status == 404:
                continue
            if reply.status == 403:
                raise OriginDeniedError(
                    f"{url}: 403. This web server lists no folders, so the newest snapshot cannot be found. Turn its "
                    "listing on (nginx: autoindex on), or name a snapshot when opening."
                )
            if reply.status != 200:
                await self._refused(reply.status, f"GET {url}: {reply.status}", prefix, None)
            files, below = listed_in(reply, folder)
            for each in files:
                yield each
            folders += below if recursive else []

    async def _fail(self, error: Exception, path: str, etag: str | None = None) -> NoReturn:
        """Raise what `error` means to who asked for `path`."""
        where, said = f"{self.url}/{path}", _words(error)
        if isinstance(error, FileNotFoundError):
            raise no_such_object(self.url, path) from error
        if isinstance(error, AlreadyExistsError):
            raise object_exists(self.url, path) from error
        if isinstance(error, PreconditionError):
            raise OriginChangedError(
                f"{where}: is not the object any more that had the ETag {etag}. It was replaced while it was "
                "read: open the dataset again. Shards of a dataset never change; whoever writes there must not replace "
                "files."
            ) from error
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            self._denied(path, said, error)
        if _PAST_THE_END.search(str(error)):
            raise OriginChangedError(f"{where}: has no such bytes ({said}). It was replaced or cut: open the dataset "
                                     "again.") from error  # fmt: skip
        if isinstance(error, NotSupportedError) or "NotPartial" in str(error):
            raise OriginError(f"{where}: {said}. The server must answer ranges (HTTP 206); put one in front that "
                              "does, such as nginx.") from error  # fmt: skip
        if found := _STATUS.search(str(error)):
            await self._refused(int(found[1]), said, path, error)
        if "BadScheme" in str(error):
            raise ConfigError(f"{where}: its endpoint is plain HTTP. If that is meant, say so: allow_http, or the "
                              f"variable {ALLOW_HTTP_VARIABLES.get(self._place.scheme)}=true.") from error  # fmt: skip
        if isinstance(error, ValueError):
            raise ConfigError(f"{where}: {said}") from error
        # No answer at all: no connection, no such host, a reset, a body that ended early.
        raise TransientOriginError(said) from error

    async def _refused(self, status: int, said: str, path: str, error: Exception | None) -> NoReturn:
        if status in _THROTTLED:
            wait_s = await self._retry_after_s(path)
            raise TransientOriginError(said, throttled=True, retry_after_s=wait_s) from error
        if status in _NOT_NOW:
            raise TransientOriginError(said) from error
        if status == 416:
            raise OriginChangedError(f"{self.url}/{path}: has no such bytes (416). It was replaced or cut: open the "
                                     "dataset again.") from error  # fmt: skip
        if status in (401, 403) or _EXPIRED.search(str(error)):
            self._denied(path, said, error)
        raise OriginError(f"{self.url}/{path}: {said}") from error

    def _denied(self, path: str, said: str, error: Exception | None) -> NoReturn:
        """Final, unless credentials come from a file: one that has been renewed is read again at once, and where they
        have expired, whoever renews it may be a moment late."""
        words = _denied(f"{self.url}/{path}", said, str(error))
        if self._options.credentials_file is not None:
            changed_ns = self._credentials_changed_ns()
            if changed_ns != self._credentials_ns or _EXPIRED.search(str(error)):
                self._credentials_ns = changed_ns
                self._store = _store(self._place, self._options, retries=0)
                raise TransientOriginError(words) from error
        raise OriginDeniedError(words) from error

    def _credentials_changed_ns(self) -> int:
        file = self._options.credentials_file
        return file.stat().st_mtime_ns if file is not None and file.exists() else 0

    async def _retry_after_s(self, path: str) -> float:
        """What the origin says of when to come back: asked once in RETRY_AFTER_AGAIN_S, however many want to know."""
        if self._asking is None or time.monotonic() > self._asked_at_s + RETRY_AFTER_AGAIN_S:
            self._asked_at_s = time.monotonic()
            self._asking = asyncio.create_task(self._ask_retry_after(path))
        return await asyncio.shield(self._asking)

    async def _ask_retry_after(self, path: str) -> float:
        try:
            if isinstance(self._store, HTTPStore):
                url = folder_url(self.url, path).rstrip("/")
            elif self._options.anonymous or (isinstance(self._store, GCSStore) and self._options.endpoint):
                return 0.0
            else:
                url = await obstore.sign_async(self._store, "GET", path, SIGNED_FOR)
            reply = await asyncio.to_thread(
                request, url, min(RETRY_AFTER_TIMEOUT_S, self._options.timeout_s), headers={"Range": "bytes=0-0"}
            )
        except (BaseError, OriginError, OSError, ValueError):
            return 0.0  # we wait as long as without it
        return retry_after_s(reply.headers.get("retry-after", "")) if reply.status >= 400 else 0.0


def _range(start: int, stop: int, etag: str | None) -> GetOptions:
    """A weak ETag matches nothing on a server: it is only compared."""
    if etag and not etag.startswith("W/"):
        return {"range": (start, stop), "if_match": etag}
    return {"range": (start, stop)}


def _info(meta: Any) -> ObjectInfo:
    return ObjectInfo(meta["size"], meta["e_tag"] or "", meta["version"] or "", meta["last_modified"].timestamp())


def _listed(meta: Any) -> Listed:
    return Listed(meta["path"], meta["size"], meta["last_modified"].timestamp())


def _words(error: Exception) -> str:
    """What obstore met, in short: the answer's status and what it says, or the kind of failure. Without queries: they
    can be signatures."""
    text = str(error)
    if _IDENTITY.search(text):
        return "there are no credentials in options or environment, and this machine's identity service gave none"
    if found := _STATUS.search(text):
        said = [match[1].strip().rstrip(".") for match in (_CODE.search(text), _MESSAGE.search(text)) if match]
        return f"HTTP {found[1]} {': '.join(said) or found[2]}".strip()
    first = text.split("\n", 1)[0].strip()
    details = [shown for shown, name in _KINDS.items() if name in text]
    return _QUERY.sub("", f"{first} ({', '.join(details)})" if details else first)


def _denied(where: str, said: str, text: str) -> str:
    if _EXPIRED.search(text):
        return (f"{where}: the credentials have expired ({said}). Give new ones: renew the session, or let the "
                "machine's role, a web identity or a credentials file that is renewed provide them.")  # fmt: skip
    return (f"{where}: {said}. Check the credentials (options of the origin, environment, the machine's role), and "
            "whether they may read this bucket; for a public one set anonymous.")  # fmt: skip


def _store(place: Place, options: OriginOptions, *, retries: int) -> Store:
    """The store for a place. ConfigError where options and place do not fit."""
    common: dict[str, Any] = {
        "client_options": {
            # The whole request has its limit in steady.py; this one finds a connection that is dead.
            "connect_timeout": timedelta(seconds=options.timeout_s),
            "read_timeout": timedelta(seconds=options.timeout_s),
            "timeout": timedelta(seconds=options.deadline_s),
            "allow_http": options.allow_http or place.scheme == "http" or _http_is_allowed(place.scheme),
            "user_agent": "fastfeed",
        },
        "retry_config": {"max_retries": retries, "retry_timeout": timedelta(seconds=options.deadline_s)},
    }
    try:
        if place.scheme == "s3":
            return S3Store(place.bucket, **_s3_config(options), **common)
        if place.scheme == "gs":
            return GCSStore(place.bucket, **_gcs_config(options), **common)
        if place.scheme == "az":
            return AzureStore(place.bucket, **_azure_config(place, options), **common)
        return HTTPStore(place.root, **common)
    except (BaseError, ValueError) as error:
        raise ConfigError(f"{place.root}: cannot be reached with these options: {_words(error)}") from error


def _http_is_allowed(scheme: str) -> bool:
    """obstore looks at these variables only where it is given no options at all."""
    return os.environ.get(ALLOW_HTTP_VARIABLES.get(scheme, ""), "").lower() in ("true", "1", "yes", "on")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", False)}


def _s3_config(options: OriginOptions) -> dict[str, Any]:
    # One by one: some services have no bulk deletion, and its answers have no status.
    found = {
        "disable_bulk_delete": True,
        **_given(endpoint=options.endpoint, region=options.region, skip_signature=options.anonymous),
    }
    if options.credentials_file is not None:
        found["credential_provider"] = aws_credentials(options.credentials_file, options.profile)
    else:
        found |= _given(
            access_key_id=options.access_key_id,
            secret_access_key=options.secret_access_key,
            session_token=options.session_token,
        )
    if options.endpoint and not options.region:
        found["region"] = "us-east-1"  # services that are not Amazon's take any; obstore wants one
    return found


def _gcs_config(options: OriginOptions) -> dict[str, Any]:
    return _given(
        base_url=options.endpoint,
        skip_signature=options.anonymous,
        bearer_token=options.session_token,
        application_credentials=str(options.credentials_file) if options.credentials_file else None,
    )


def _azure_config(place: Place, options: OriginOptions) -> dict[str, Any]:
    return _given(
        endpoint=options.endpoint,
        account_name=place.account or options.access_key_id,
        account_key=options.secret_access_key,
        sas_key=options.session_token,
        skip_signature=options.anonymous,
    )


# How long credentials of a file are used before the file is looked at again: renewals are minutes apart.
CREDENTIALS_FILE_S = 60.0


def aws_credentials(file: Path, profile: str) -> Callable[[], Any]:
    """A provider that reads `profile` of a file as ~/.aws/credentials, anew every minute."""

    def read() -> dict[str, Any]:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(file.read_text(encoding="utf-8"))
            section = parser[profile]
            return {
                "access_key_id": section["aws_access_key_id"],
                "secret_access_key": section["aws_secret_access_key"],
                "token": section.get("aws_session_token"),
                "expires_at": datetime.now(UTC) + timedelta(seconds=CREDENTIALS_FILE_S),
            }
        except (OSError, KeyError, configparser.Error) as error:
            raise OriginDeniedError(
                f"{file}: no credentials of profile {profile!r} can be read from it: {error}. It must look like "
                "~/.aws/credentials: [profile], aws_access_key_id, aws_secret_access_key."
            ) from error

    return read
