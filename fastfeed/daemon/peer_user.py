"""Which user is at the other end of a TCP connection over loopback: asked of the kernel, not of the client.

The other end is a socket of this machine and this network namespace, so it stands in /proc/net/tcp with its owner's
uid. Only established sockets count: of one that its process has closed, the kernel says root.
"""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

ESTABLISHED = "01"
PROC_NET = Path("/proc/net")


def user_of(local: tuple[str, int], remote: tuple[str, int], proc_net: Path = PROC_NET) -> int | None:
    """The uid of the process that connected from `remote` to `local`, which is ours; None where it is not known."""
    wanted = (_kernel_text(remote), _kernel_text(local))
    table = proc_net / ("tcp6" if ":" in remote[0] else "tcp")
    with table.open() as lines:
        for line in lines:
            words = line.split()
            if (words[1], words[2], words[3]) == (*wanted, ESTABLISHED):
                return int(words[7])
    return None


def _kernel_text(address: tuple[str, int]) -> str:
    """An address as /proc/net writes it: words of 4 bytes in the machine's order, then the port."""
    packed = ipaddress.ip_address(address[0]).packed
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    order = (word[::-1] if sys.byteorder == "little" else word for word in words)
    return "".join(word.hex().upper() for word in order) + f":{address[1]:04X}"
