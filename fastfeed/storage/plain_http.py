"""One small request with the standard library, for two answers that obstore does not hand on: a web server's page of
links, which has no Content-Length, and the Retry-After of an answer that says to come back later. In threads; no
retries here.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from typing import NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

from fastfeed.errors import OriginError
from fastfeed.storage.failures import TransientOriginError
from fastfeed.storage.protocol import Listed

# A listing of 100,000 shards is about 20 MB of HTML; what is longer is no listing of a dataset.
PAGE_BYTES_MAX = 64 << 20
REDIRECTS_MAX = 5


class Reply(NamedTuple):
    """headers: names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    url: str


def request(url: str, timeout_s: float, *, headers: dict[str, str] | None = None, body_bytes_max: int = 0) -> Reply:
    """GET `url`, following redirects; read at most body_bytes_max of the body. TransientOriginError where nobody
    answers."""
    for _ in range(REDIRECTS_MAX):
        reply = _request_once(url, timeout_s, headers or {}, body_bytes_max)
        if reply.status not in (301, 302, 303, 307, 308) or "location" not in reply.headers:
            return reply
        url = urljoin(url, reply.headers["location"])
    raise OriginError(f"{without_query(url)}: more than {REDIRECTS_MAX} redirects.")


def _request_once(url: str, timeout_s: float, headers: dict[str, str], body_bytes_max: int) -> Reply:
    parts = urlsplit(url)
    if parts.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.netloc, timeout=timeout_s, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": "fastfeed", **headers})
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, found, answer.read(body_bytes_max) if body_bytes_max else b"", url)
    except (OSError, http.client.HTTPException) as error:
        raise TransientOriginError(f"{without_query(url)}: {error or type(error).__name__}") from error
    finally:
        connection.close()


def retry_after_s(value: str, now_s: float | None = None) -> float:
    """Seconds to wait, of a Retry-After header: a number, or a date. 0.0 where it is neither."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - (time.time() if now_s is None else now_s))
    except (ValueError, TypeError):
        return 0.0


def without_query(url: str) -> str:
    """A URL for messages: queries can carry signatures."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def folder_url(base: str, folder: str) -> str:
    """The URL of a web server's page for a folder."""
    return f"{base}/{quote(folder)}/" if folder else f"{base}/"


def listed_in(reply: Reply, folder: str) -> tuple[list[Listed], list[str]]:
    """(files, folders) that a page of links, or nginx's JSON listing, names directly below `folder`."""
    text = reply.body.decode("utf-8", "replace")
    if "json" in reply.headers.get("content-type", ""):
        return _json_listing(text, folder, without_query(reply.url))
    links = _Links()
    links.feed(text)
    here = urlsplit(reply.url).path
    files, folders = [], []
    for link in dict.fromkeys(links.found):
        target = urlsplit(urljoin(reply.url, link))
        if target.query or target.netloc != urlsplit(reply.url).netloc or not target.path.startswith(here):
            continue  # sort orders, the folder above, pages elsewhere
        name = unquote(target.path[len(here) :])
        if name and "/" not in name:
            files.append(Listed(_join(folder, name), None, None))
        elif name.endswith("/") and name.count("/") == 1:
            folders.append(_join(folder, name[:-1]))
    return files, folders


def _json_listing(text: str, folder: str, url: str) -> tuple[list[Listed], list[str]]:
    try:
        entries = json.loads(text)
        if not isinstance(entries, list):
            raise TypeError("no list")
        folders = [_join(folder, each["name"]) for each in entries if each["type"] == "directory"]
        files = [
            Listed(_join(folder, each["name"]), int(each["size"]), _seconds(each.get("mtime")))
            for each in entries
            if each["type"] == "file"
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise OriginError(f"{url}: is JSON and no listing of a folder: {error!r}.") from error
    return files, folders


def _seconds(mtime: str | None) -> float | None:
    return parsedate_to_datetime(mtime).timestamp() if mtime else None


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


class _Links(HTMLParser):
    """Collects where the links of a page lead."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]
