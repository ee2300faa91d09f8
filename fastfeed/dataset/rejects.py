"""The list of samples that a conversion left out, `_feed/rejects/<xxh3-128>.jsonl`, as a provenance names it.

Readers of rows never look at it. `info` mentions it, `verify` reads it: it is part of what a conversion says it did.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import xxhash

from fastfeed.dataset.folder import REJECTS_FOLDER
from fastfeed.errors import CorruptDataError
from fastfeed.storage.protocol import Storage

# The key in the provenance.
REJECTS_KEY = "rejects"

_HASH = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejects:
    """A published list: how many samples, how many bytes, the hash of the bytes."""

    count: int
    bytes: int
    xxh3_128: str

    @property
    def file(self) -> str:
        """Its name in the dataset."""
        return f"{REJECTS_FOLDER}/{self.xxh3_128}.jsonl"

    def provenance(self) -> dict[str, Any]:
        """What stands under REJECTS_KEY."""
        return {"file": self.file, **asdict(self)}


def rejects_of(provenance: Mapping[str, Any]) -> Rejects | None:
    """The list that a provenance names; None where nothing was left out. CorruptDataError where it names none right."""
    named = provenance.get(REJECTS_KEY)
    if named is None:
        return None
    try:
        found = Rejects(count=named["count"], bytes=named["bytes"], xxh3_128=named["xxh3_128"])
        right = _HASH.fullmatch(found.xxh3_128) is not None and found.provenance() == named
    except (KeyError, TypeError) as error:
        raise CorruptDataError(f"its provenance names rejects as {named!r} ({error!r})") from error
    if not right or not all(type(number) is int and number > 0 for number in (found.count, found.bytes)):
        raise CorruptDataError(f"its provenance names rejects as {named!r}")
    return found


def check_rejects(storage: Storage, rejects: Rejects) -> None:
    """Read the list. CorruptDataError where it is not the one that is named, FileNotFoundError where it is gone."""
    data = storage.map(rejects.file)
    if len(data) != rejects.bytes:
        raise CorruptDataError(f"has {len(data)} bytes, the manifest says {rejects.bytes}")
    if (digest := xxhash.xxh3_128_hexdigest(data)) != rejects.xxh3_128:
        raise CorruptDataError(f"has the hash {digest}, its name says {rejects.xxh3_128}")
    if (count := bytes(data).count(b"\n")) != rejects.count:
        raise CorruptDataError(f"has {count} lines, the manifest says {rejects.count}")
