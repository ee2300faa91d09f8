"""Where URLs lead, what pages of links name, and when to come back."""

from __future__ import annotations

import pytest

from fastfeed.errors import ConfigError, OriginError
from fastfeed.storage.location import storage_to_write
from fastfeed.storage.places import Place, is_remote, place_of, scheme_of
from fastfeed.storage.plain_http import Reply, folder_url, listed_in, request, retry_after_s, without_query


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://bucket/a/b/", Place("s3", "s3://bucket", "a/b", "bucket")),
        ("S3A://bucket", Place("s3", "s3://bucket", "", "bucket")),
        ("gs://bucket/a b", Place("gs", "gs://bucket", "a b", "bucket")),
        ("gcs://bucket/x%20y", Place("gs", "gs://bucket", "x%20y", "bucket")),
        ("az://box/a", Place("az", "az://box", "a", "box")),
        (
            "abfss://box@account.dfs.core.windows.net/a",
            Place("az", "abfss://box@account.dfs.core.windows.net", "a", "box", "account"),
        ),
        ("https://Host.example:8443/a%20b/c", Place("https", "https://host.example:8443", "a b/c")),
        ("http://127.0.0.1:80", Place("http", "http://127.0.0.1:80", "")),
        ("file:///data/set/", Place("file", "file://", "data/set")),
        ("FILE://localhost/x", Place("file", "file://", "x")),
    ],
)
def test_a_url_is_an_origin_and_a_path_in_it(url: str, place: Place) -> None:
    assert place_of(url) == place


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/data/set", "is no URL"),
        ("ftp://host/x", "unknown scheme"),
        ("s3:///key", "names no bucket"),
        ("https:///x", "names no host"),
        ("https://host/x?signature=hush", "with a query"),
        ("https://me:hush@host/x", "no user or password"),
        ("s3://bucket/a//b", "without empty parts"),
        ("s3://bucket/a/../b", "without empty parts"),
        ("file://other/x", "not on 'other'"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_and_gives_no_secret_away(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as found:
        place_of(url)
    assert "hush" not in str(found.value)


def test_paths_and_file_urls_are_not_remote() -> None:
    assert [is_remote(each) for each in ("/x", "x", "file:///x", "s3://b", "https://h")] == [False] * 3 + [True] * 2
    assert scheme_of("with:colon") == ""


def test_a_web_server_is_no_place_to_write() -> None:
    with pytest.raises(ConfigError, match="nothing can be written to a web server"):
        storage_to_write("https://host/x")
    assert storage_to_write("/tmp/x").url == "/tmp/x"


PAGE = """<html><h1>Index of /set/</h1><a href="../">../</a> <a href="?C=M;O=A">Last modified</a>
<a href="one.arrow">one</a><a href="./two%20b.arrow">two</a><a href="/set/three">three</a><a href="below/">below/</a>
<a href="/elsewhere/x">x</a><a href="https://other/set/y">y</a><a href="below/deep">deep</a><a name="none"></a>"""


def test_a_page_of_links_names_what_is_directly_below_it() -> None:
    files, folders = listed_in(Reply(200, {"content-type": "text/html"}, PAGE.encode(), "http://host/set/"), "set")
    assert [each.path for each in files] == ["set/one.arrow", "set/two b.arrow", "set/three"]
    assert folders == ["set/below"]


@pytest.mark.parametrize("body", [b"{}", b"[{}]", b"no json", b'[{"name": "x", "type": "file"}]'])
def test_json_that_is_no_listing_is_an_error(body: bytes) -> None:
    with pytest.raises(OriginError, match="no listing"):
        listed_in(Reply(200, {"content-type": "application/json"}, body or b"[]", "http://host/set/?x=1"), "set")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("", 0.0),
        ("soon", 0.0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str, seconds: float) -> None:
    assert retry_after_s(value, now_s=100.0) == seconds


def test_urls_of_folders_are_quoted_and_shown_without_queries() -> None:
    assert folder_url("http://host", "a b/ü") == "http://host/a%20b/%C3%BC/"
    assert folder_url("http://host", "") == "http://host/"
    assert without_query("https://host/x?X-Amz-Signature=hush#y") == "https://host/x"


def test_a_host_that_does_not_answer_is_no_reply() -> None:
    with pytest.raises(OriginError, match=r"127\.0\.0\.1:1"):
        request("http://127.0.0.1:1/x?hush", 1.0)
