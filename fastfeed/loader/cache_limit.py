"""`cache_limit=`, a keyword of other loaders: how many bytes a cache on this node may hold.

Here the cache is the node's, not the loader's, and its limit its daemon's: a loader cannot set it, so the keyword is a
demand that is checked. Data that are read in place put nothing on disk, and meet any.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import ConfigError
from fastfeed.format.sizes import format_size
from fastfeed.wire.door import session_at


def require_cache_limit(datasets: Sequence[Dataset], limit_bytes: int | None) -> None:
    """ConfigError where a daemon that one of the datasets is read through may hold more than `limit_bytes`."""
    if limit_bytes is None:
        return
    for place in dict.fromkeys(each.opened.payload.place for each in datasets):
        if place is None:
            continue
        from fastfeed.wire.messages import Command  # there is a daemon to speak to: see wire/door.py

        session = session_at(place)
        pool = session.welcome.pool
        for told in session.command(Command.STATUS, {})["pools"]:
            if told["name"] == pool and told["limit_bytes"] > limit_bytes:
                raise ConfigError(
                    f"cache_limit={format_size(limit_bytes)}: the cache at {place.socket} is this node's, and may hold "
                    f"{format_size(told['limit_bytes'])}. Set its limit (FASTFEED_CACHE_LIMIT before the first process "
                    "starts it, or pools.<name>.limit of the service), or leave cache_limit= out."
                )
