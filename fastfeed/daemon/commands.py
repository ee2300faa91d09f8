"""What the operator's commands do (`fastfeed cache ...`), as JSON in and out.

Everybody in a pool may ask; what changes the daemon itself is for its own user and root.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from fastfeed.daemon.admin import PoolAdmin, number_of, url_of
from fastfeed.daemon.pool_service import PoolService
from fastfeed.daemon.report import to_json
from fastfeed.daemon.session import Session
from fastfeed.errors import ConfigError
from fastfeed.wire.messages import Command

if TYPE_CHECKING:
    from fastfeed.daemon.daemon import Daemon


class DaemonCommands:
    """Implements `session.Commands`."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def tell(self, session: Session, command: Command, arguments: bytes) -> object:
        """What to answer."""
        given = _arguments(arguments)
        match command:
            case Command.STATUS:
                return to_json(self._daemon.report().seen_by(self._pools_seen(session)))
            case Command.DRAIN:
                self._check_operator(session, "let it leave")
                self._daemon.leave()
                server = self._daemon.server
                return {"clients": len(server.sessions) if server else 0, "drain_s": self._daemon.config.drain_s}
            case Command.CONFIG:
                self._check_operator(session, "see the configuration of all pools")
                return {"settings": to_json(self._daemon.loaded.provenance)}
        return await self._of_pool(session, command, given)

    async def _of_pool(self, session: Session, command: Command, given: dict[str, Any]) -> object:
        """The commands on one pool: the session's, or another one for who runs the daemon."""
        if command is Command.LS and "pool" not in given and self._is_operator(session):
            sets = [
                each
                for service in self._daemon.services.values()
                for each in await PoolAdmin(service).ls(given.get("url"))
            ]
            return {"sets": sets}
        admin = PoolAdmin(self._service(session, given.get("pool")))
        if command is Command.LS:
            return {"sets": await admin.ls(given.get("url"))}
        snapshot = number_of(given, "snapshot")
        match command:
            case Command.WARM:
                watch, stop = given.get("watch") is True, given.get("stop") is True
                return await admin.warm(url_of(given), snapshot, watch=watch, stop=stop)
            case Command.EXPLAIN:
                row, offset = number_of(given, "row"), number_of(given, "offset")
                return await admin.explain(url_of(given), snapshot, row, offset)
        self._check_operator(session, f"{command.name.lower()} what others read")
        match command:
            case Command.PIN:
                return await admin.pin(url_of(given), snapshot)
            case Command.UNPIN:
                return await admin.unpin(url_of(given), snapshot)
            case Command.EVICT:
                return await admin.evict(None if given.get("all") is True else url_of(given), snapshot)
        raise ConfigError(f"there is no command {command.name}")

    def _service(self, session: Session, pool: object) -> PoolService:
        if pool is None or pool == session.service.name:
            return session.service
        self._check_operator(session, f"use pool {pool!r}")
        if not isinstance(pool, str) or pool not in self._daemon.services:
            raise ConfigError(f"there is no pool {pool!r}; there are {', '.join(self._daemon.services)}.")
        return self._daemon.services[pool]

    def _pools_seen(self, session: Session) -> set[str] | None:
        return None if self._is_operator(session) else {session.service.name}

    def _is_operator(self, session: Session) -> bool:
        return session.peer.uid in (0, os.geteuid())

    def _check_operator(self, session: Session, what: str) -> None:
        if not self._is_operator(session):
            raise PermissionError(
                f"user {session.peer.uid} may not {what}: only root and the daemon's user ({os.geteuid()}) may."
            )


def _arguments(text: bytes) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the command's arguments are no JSON: {error}") from error
    if not isinstance(given, dict):
        raise ConfigError("the command's arguments are no JSON object")
    return given
