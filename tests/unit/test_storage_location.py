"""Which places paths and URLs mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastfeed.errors import ConfigError, OriginError
from fastfeed.storage.location import local_path, storage_at


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/data/set", "/data/set"),
        ("/data/../set/", "/set"),
        (Path("/data/set"), "/data/set"),
        ("file:///data/set", "/data/set"),
        ("FILE://localhost/data/my%20set", "/data/my set"),
        ("relative", str(Path.cwd() / "relative")),
        ("~/set", str(Path.home() / "set")),
        ("with:colon", str(Path.cwd() / "with:colon")),
    ],
)
def test_paths_and_file_urls_mean_absolute_paths(url: str | Path, path: str) -> None:
    assert local_path(url) == Path(path)
    assert storage_at(url).url == path


@pytest.mark.parametrize("url", ["s3://bucket/set", "gs://bucket", "az://box/set", "https://host/set", "S3://bucket"])
def test_remote_places_are_no_folders_of_this_machine(url: str) -> None:
    with pytest.raises(OriginError, match="folders of this machine only"):
        local_path(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/set", "unknown scheme ftp"),
        ("file://host/set", "not on 'host'"),
        ("", "no place"),
        (b"x", "no place"),
    ],
)
def test_other_places_are_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        local_path(url)
