"""Who is at the other end of a connection: asked of the kernel, never of the client."""

from __future__ import annotations

import array
import errno
import socket
import struct
from typing import NamedTuple

from fastfeed.wire.places import OVERFLOW_UID

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
# From <asm-generic/socket.h>; Python's socket module does not name it.
SO_PEERGROUPS = 59
# What Python's getsockopt takes; 4 bytes each. Of a user with more groups only the first one counts.
GROUPS_MAX = 256


class Peer(NamedTuple):
    """A process as it was when it connected. gids: its group and its supplementary ones."""

    pid: int
    uid: int
    gids: frozenset[int]

    @property
    def is_known(self) -> bool:
        """False for a user of another user namespace: whoever is not mapped here has this number, so it is nobody's."""
        return self.uid != OVERFLOW_UID

    def __str__(self) -> str:
        return f"process {self.pid} of user {self.uid}"


def peer_of(connected: socket.socket) -> Peer:
    """The peer of a Unix socket."""
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(credentials)
    try:
        groups = array.array("I", connected.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * GROUPS_MAX))
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        groups = array.array("I")
    return Peer(pid, uid & 0xFFFFFFFF, frozenset({gid & 0xFFFFFFFF, *groups}))
