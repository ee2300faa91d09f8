"""What `fastfeed doctor` says of the node cache: its configuration, its disks, and the daemon if one runs.

Looks and asks; starts nothing.
"""

from __future__ import annotations

import argparse
from typing import Any

from fastfeed.cli.cache_asking import Daemon, socket_of
from fastfeed.daemon.config import load
from fastfeed.errors import ConfigError, FastfeedError
from fastfeed.format.sizes import format_size
from fastfeed.wire.messages import Command

# A daemon that is well answers in milliseconds.
TIMEOUT_S = 5.0
NO_SOCKET = argparse.Namespace(socket=None, timeout=TIMEOUT_S)


def examine_cache() -> dict[str, Any]:
    """The configuration that a daemon of this user would have, and what the daemon there is says of itself."""
    return {"configuration": _configuration(), "daemon": _daemon()}


def _configuration() -> dict[str, Any]:
    try:
        config = load().config
    except (ConfigError, OSError) as error:
        return {"error": str(error), "disks": [], "pools": []}
    return {
        "error": None,
        "disks": [{"name": disk.name, "folder": str(disk.path)} for disk in config.disks],
        "pools": [{"name": pool.name, "limit_bytes": pool.limit_bytes} for pool in config.pools],
    }


def _daemon() -> dict[str, Any]:
    socket = socket_of(NO_SOCKET)
    if not socket.exists():
        return {"socket": str(socket), "state": "none runs", "error": None}
    try:
        with Daemon(NO_SOCKET) as daemon:
            report = daemon.ask(Command.STATUS)
    except (FastfeedError, OSError) as error:
        return {"socket": str(socket), "state": "does not answer", "error": str(error)}
    return {
        "socket": str(socket),
        "state": "draining" if report["draining"] else "serving",
        "error": None,
        "version": report["version"],
        "pid": report["pid"],
        "page": report["http"],
        "pools": [
            {
                "name": pool["name"],
                "used_bytes": pool["used_bytes"],
                "limit_bytes": pool["limit_bytes"],
                "disks": [{key: disk[key] for key in ("name", "state", "reason")} for disk in pool["disks"]],
            }
            for pool in report["pools"]
        ],
    }


def cache_lacks(cache: dict[str, Any], version: str) -> list[tuple[str, str]]:
    """What is wrong with the cache, each with what to do. Pure."""
    found = []
    configuration, daemon = cache["configuration"], cache["daemon"]
    if configuration["error"]:
        found.append(
            (f"the cache's configuration is wrong: {configuration['error']}", "`fastfeed cache config` checks it")
        )
    if daemon["error"]:
        found.append(
            (f"the cache daemon: {daemon['error']}", "its log says more: cache.log beside its socket, or the journal")
        )
    if daemon.get("version", version) != version:
        found.append(
            (f"the cache daemon is version {daemon['version']}, this is {version}", "restart it: what it holds stays")
        )
    found += [
        (
            f"disk {disk['name']} of pool {pool['name']} is {disk['state']}: {disk['reason']}",
            "look at the disk (dmesg, smartctl); it is taken back by itself when it works",
        )
        for pool in daemon.get("pools", [])
        for disk in pool["disks"]
        if disk["state"] != "ok"
    ]
    return found


def cache_rows(cache: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines of the report. Pure."""
    daemon = cache["daemon"]
    state = f"{daemon['state']} at {daemon['socket']}"
    if "pid" in daemon:
        state += f": version {daemon['version']}, pid {daemon['pid']}" + (
            f", {daemon['page']}" if daemon["page"] else ""
        )
    pools = [
        f"{pool['name']}: {format_size(pool['used_bytes'])} of {format_size(pool['limit_bytes'])} used"
        for pool in daemon.get("pools", [])
    ] or [f"{pool['name']}: at most {format_size(pool['limit_bytes'])}" for pool in cache["configuration"]["pools"]]
    return [("cache daemon", state), ("cache pools", "; ".join(pools) or "none")]
