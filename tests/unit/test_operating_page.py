"""docs/operating.md has every setting, with what it is for and whether a reload takes it."""

from __future__ import annotations

import re
from pathlib import Path

from fastfeed.daemon.config import load
from fastfeed.daemon.defaults import Machine
from fastfeed.daemon.settings import Provenance
from tests.helpers.repository import ROOT

ROW = re.compile(r"^\| `([\w.]+)` \| [^|]* \| (yes)? ?\| (.+) \|$", re.MULTILINE)


def settings(folder: Path) -> dict[str, Provenance]:
    """Every setting that there is, with NAME for the names of pools, disks and origins."""
    file = folder / "all.toml"
    file.write_text('[disks.x]\npath = "/x"\n[pools.x]\nlimit = 1\n[pools.x.origins.x]\nurl = "s3://x"\n')
    loaded = load(file, machine=Machine.here({"HOME": "/tmp"}))
    return {re.sub(r"\bx\b", "NAME", each.key): each for each in loaded.provenance}


def test_every_setting_is_in_the_table_as_the_code_has_it(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    rows = {key: (doc, bool(reload)) for key, reload, doc in ROW.findall(page) if not key.startswith("fastfeed_")}
    known = settings(tmp_path)
    inherited = {key for key in known if key.startswith("pools.NAME.origins.NAME.")} - {"pools.NAME.origins.NAME.url"}
    assert rows == {key: (each.doc, each.reload) for key, each in known.items() if key not in inherited}


def test_an_origin_has_every_setting_of_the_table_origin(tmp_path: Path) -> None:
    known = set(settings(tmp_path))
    origin = {key.removeprefix("origin.") for key in known if key.startswith("origin.")}
    of_pool = {key.rpartition(".")[2] for key in known if key.startswith("pools.NAME.origins.NAME.")}
    assert of_pool == origin | {"url"}
