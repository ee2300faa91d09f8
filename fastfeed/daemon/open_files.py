"""How many files a daemon may have open: four a client, and as many again that are on their way to clients.

Shells give 1,024 by default and allow far more; 250 clients would use that up, and then nobody new is answered.
"""

from __future__ import annotations

import resource


def allow_many_open_files() -> int:
    """Use all that the system allows this process, and say how many that is."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
