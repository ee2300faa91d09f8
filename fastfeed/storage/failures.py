"""What an attempt at an origin can fail with: what another attempt may mend (nobody above `steady.py` sees that), and
the system's errors for objects, with their names."""

from __future__ import annotations

import errno

from fastfeed.errors import OriginError


class TransientOriginError(OriginError):
    """An attempt failed and another may not. `throttled`: the origin asks all of us to come slower; `retry_after_s`:
    it said when (0.0: it did not)."""

    def __init__(self, message: str, *, throttled: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.throttled = throttled
        self.retry_after_s = retry_after_s


def no_such_object(url: str, path: str) -> FileNotFoundError:
    """The error for an object that is not there."""
    return FileNotFoundError(errno.ENOENT, "there is no such object", f"{url}/{path}")


def object_exists(url: str, path: str) -> FileExistsError:
    """The error of who loses a race to make an object."""
    return FileExistsError(errno.EEXIST, "there is such an object already", f"{url}/{path}")
