"""From an ERROR message to the exception that a user sees, and back: the one place of that translation."""

from __future__ import annotations

from fastfeed.errors import (
    CacheFullError,
    ConfigError,
    CorruptDataError,
    DaemonUnavailableError,
    DatasetNotFoundError,
    FastfeedError,
    FormatVersionError,
    OriginChangedError,
    OriginError,
)
from fastfeed.wire.framing import ErrorCode, ProtocolError
from fastfeed.wire.hot import Error

_CLASSES: dict[int, type[FastfeedError]] = {
    ErrorCode.UNSUPPORTED: FormatVersionError,
    ErrorCode.DENIED: ConfigError,
    ErrorCode.NOT_FOUND: DatasetNotFoundError,
    ErrorCode.ORIGIN: OriginError,
    ErrorCode.ORIGIN_CHANGED: OriginChangedError,
    ErrorCode.CORRUPT: CorruptDataError,
    ErrorCode.CACHE_FULL: CacheFullError,
    ErrorCode.TIMEOUT: DaemonUnavailableError,
    ErrorCode.DRAINING: DaemonUnavailableError,
    ErrorCode.CONFIG: ConfigError,
}
# Subclasses before what they derive from.
_CODES: list[tuple[type[BaseException], ErrorCode]] = [
    (FormatVersionError, ErrorCode.UNSUPPORTED),
    (CorruptDataError, ErrorCode.CORRUPT),
    (CacheFullError, ErrorCode.CACHE_FULL),
    (OriginChangedError, ErrorCode.ORIGIN_CHANGED),
    (OriginError, ErrorCode.ORIGIN),
    (FileNotFoundError, ErrorCode.NOT_FOUND),
    (PermissionError, ErrorCode.DENIED),
    (ConfigError, ErrorCode.CONFIG),
    (TimeoutError, ErrorCode.TIMEOUT),
    (DaemonUnavailableError, ErrorCode.DRAINING),
]


def exception_of(error: Error) -> FastfeedError:
    """What to raise for the daemon's answer. Its text says what to do, so it is the message."""
    kind = _CLASSES.get(error.code)
    if kind is None:
        return FastfeedError(f"the cache daemon failed ({_code_name(error.code)}): {error.text}")
    return kind(error.text)


def answer_to(error: BaseException) -> Error:
    """What the daemon answers where `error` ended a request."""
    if isinstance(error, ProtocolError):
        return Error.because(error)
    for kind, code in _CODES:
        if isinstance(error, kind):
            return Error(code=code, text=str(error))
    return Error(code=ErrorCode.INTERNAL, text=f"{type(error).__name__}: {error}")


def _code_name(code: int) -> str:
    return ErrorCode(code).name if code in set(ErrorCode) else f"code {code}"
