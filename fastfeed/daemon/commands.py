"""What the operator's commands do (`fastfeed cache ...`), as JSON in and out.

Everybody in a pool may ask; what changes the daemon itself is for its own user and root.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

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
                return {"settings": to_json(self._daemon.loaded.provenance)}
        raise ConfigError(f"{command.name} {given}")

    def _pools_seen(self, session: Session) -> set[str] | None:
        return None if session.peer.uid in (0, os.geteuid()) else {session.service.name}

    def _check_operator(self, session: Session, what: str) -> None:
        if session.peer.uid not in (0, os.geteuid()):
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
