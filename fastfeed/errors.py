"""The exceptions of fastfeed, and the exit code that each means to a shell.

This module imports nothing of ours. A class says who can act: `CorruptDataError` means that data must be made
again, `ConfigError` that the caller must change something, `CacheFullError` that the operator must. Failures
of the operating system stay `OSError` with the file's name. Every class pickles, so that an error raised in a
worker process arrives whole.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command returns to the shell."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    CORRUPT = 3
    OS = 4
    ORIGIN = 5
    CACHE_FULL = 6
    FORMAT_VERSION = 7


class FastfeedError(Exception):
    """The root of all errors that fastfeed raises itself."""

    exit_code = ExitCode.INTERNAL


class CorruptDataError(FastfeedError):
    """Bytes are not what was written: the message names file, shard and row. The data must be made again."""

    exit_code = ExitCode.CORRUPT


class FormatVersionError(FastfeedError):
    """The file uses a feature that this version does not know. Upgrade fastfeed."""

    exit_code = ExitCode.FORMAT_VERSION


class ConfigError(FastfeedError, ValueError):
    """An argument, option or input does not make sense. The caller can act."""

    exit_code = ExitCode.USAGE


class DatasetNotFoundError(FastfeedError, FileNotFoundError):
    """There is no dataset, or no such snapshot, at this place."""

    exit_code = ExitCode.OS


class CommitConflictError(FastfeedError):
    """Another writer committed while we did, more often than the limit of retries. Run again."""

    exit_code = ExitCode.ORIGIN


class CacheFullError(FastfeedError):
    """The cache cannot make room. The operator can act."""

    exit_code = ExitCode.CACHE_FULL


class DaemonUnavailableError(FastfeedError, ConnectionError):
    """The node's cache daemon does not answer. Trying again may help."""

    exit_code = ExitCode.ORIGIN


class OriginError(FastfeedError):
    """The storage behind the dataset failed after all retries."""

    exit_code = ExitCode.ORIGIN


class OriginChangedError(OriginError):
    """An object is not the one that was opened: it was replaced or cut while we read it. Open the dataset again."""


class OriginDeniedError(OriginError):
    """The storage refused our credentials, or there are none. Whoever gives them can act; another try does not help."""


class TransformError(FastfeedError):
    """A Python callable of a loader raised. The message names callable, row and position, and has the traceback."""


class LoaderTimeoutError(FastfeedError, TimeoutError):
    """No batch became ready within `timeout_s`. The message names stage, shard and row."""

    exit_code = ExitCode.ORIGIN


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code that `error` means: its own, OS for the system's failures, else INTERNAL."""
    if isinstance(error, FastfeedError):
        return error.exit_code
    if isinstance(error, OSError):
        return ExitCode.OS
    return ExitCode.INTERNAL
