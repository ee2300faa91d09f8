"""What makes two conversions the same one: who makes the dataset, from what, with which options. Pure but for stat."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import xxhash

from fastfeed import __version__
from fastfeed.convert.source import Plan, Source
from fastfeed.errors import ConfigError

# The parts of a provenance that decide the rows, in the order in which a message looks at them.
IDENTITY = ("command", "source", "options", "input")
# Items that become one text: a call of the JSON encoder costs as much as a dozen values.
ITEMS_AT_ONCE = 1024
# What must also be equal for shards of two runs to stand in one snapshot.
UNFINISHED_IDENTITY = (*IDENTITY, "tool", "check", "schema")


def input_of(source: Source, plan: Plan) -> dict[str, Any]:
    """What is known of the input without reading it: all that the plan says, and when each file was changed last."""
    digest = xxhash.xxh3_128(json.dumps(plan.metadata, sort_keys=True).encode())
    folder, last_name = os.fspath(source.folder), None
    for start in range(0, len(plan.items), ITEMS_AT_ONCE):
        said: list[object] = []
        for item in plan.items[start : start + ITEMS_AT_ONCE]:
            said += (item.size_bytes, item.name, item.values)
            if item.name != last_name:
                said.append(os.stat(f"{folder}/{item.name}").st_mtime_ns)
                last_name = item.name
        digest.update(json.dumps(said).encode())
    return {
        "items": len(plan.items),
        "bytes": sum(item.size_bytes for item in plan.items),
        "xxh3_128": digest.hexdigest(),
    }


def unfinished_identity(provenance: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """What a later run must have in common with this one to go on with it. The options hold what skip changes; that
    alone may differ (require_same)."""
    whole = {**provenance, "tool": f"fastfeed {__version__}", "schema": plan.schema.fingerprint.hex()}
    options = {name: value for name, value in provenance["options"].items() if name not in ("on_error", "check")}
    return {**{key: whole[key] for key in UNFINISHED_IDENTITY}, "options": options}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """How a conversion differs from an earlier one, as the end of a sentence about that one; "" if it does not."""
    different = [key for key in new if old.get(key) != new[key]]
    if not different:
        return ""
    if "command" in different:
        return "which was not made by convert"
    if "source" in different:
        return f"made from {old['source']}"
    if "options" in different:
        return "made with other options: " + differences(old["options"], new["options"])
    if "check" in different:
        return "made with other options: " + differences({"check": old.get("check")}, {"check": new["check"]})
    if "input" in different:
        return f"made from {count_of(old)} items of this input, which has changed since ({count_of(new)} now)"
    if "tool" in different:
        return f"made by {old.get('tool')}, and this is {new['tool']}"
    return "made with another schema"


def count_of(identity: Mapping[str, Any]) -> str:
    """How many items its input has, for a message."""
    return f"{identity['input']['items']:,}"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What is not equal in two sets of options, for a message."""
    return ", ".join(
        f"{key} was {old.get(key)!r} and is {new.get(key)!r} now"
        for key in [*new, *(key for key in old if key not in new)]
        if old.get(key) != new.get(key)
    )


def require_same(place: str, old: Mapping[str, Any], new: Mapping[str, Any], old_on_error: str, on_error: str) -> None:
    """ConfigError unless an unfinished conversion in `place` is ours.

    What a run that stops at bad input has finished holds no rejects, so a run that skips may go on with it; not the
    other way round.
    """
    why = difference(old, new)
    if not why and (old_on_error, on_error) == ("skip", "stop"):
        why = "made with other options: " + differences({"on_error": old_on_error}, {"on_error": on_error})
    if why:
        raise ConfigError(
            f"{place}: holds an unfinished conversion, {why}. Finish it with its own command, choose another "
            "destination, or give --overwrite to throw it away and start anew."
        )
