"""The daemon's configuration: what can be set, checked once, with the origin of every value.

`load` gives a `Loaded`: one frozen `Config`, and a `Provenance` a value. Nothing else in the daemon reads files,
environment or flags for settings. What a pool is, and who may read from it, is decided here and nowhere else.

On SIGHUP the daemon loads again and asks `reload`: settings that are marked `reload=True`, and new pools, are taken;
any other difference is a ConfigError that names it, and nothing changes.
"""

from __future__ import annotations

import grp
import ipaddress
import pwd
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from fastfeed.daemon import defaults
from fastfeed.daemon.defaults import Machine
from fastfeed.daemon.settings import (
    Given,
    Key,
    Provenance,
    Setting,
    Values,
    absolute_path,
    count,
    count_or_zero,
    dotted,
    duration,
    from_environment,
    from_file,
    from_flags,
    optional,
    setting,
    settings_of,
    size,
    size_or_zero,
    switch,
    text,
    words,
)
from fastfeed.errors import ConfigError
from fastfeed.format.machine import NETWORK_FILE_SYSTEMS
from fastfeed.storage.options import OriginOptions
from fastfeed.wire.places import OVERFLOW_UID, check_socket_path

DEFAULT_NAME = "default"
# Variables with names of their own -> the setting that they mean.
SHORT_VARIABLES: dict[str, Key] = {
    "FASTFEED_CACHE_SOCKET": ("socket",),
    "FASTFEED_CACHE_DIR": ("disks", DEFAULT_NAME, "path"),
    "FASTFEED_CACHE_LIMIT": ("pools", DEFAULT_NAME, "limit"),
    "FASTFEED_CACHE_HTTP": ("http",),
    "FASTFEED_RUNTIME_DIR": ("runtime",),
}
# Names the configuration file itself.
FILE_VARIABLE = "FASTFEED_CACHE_CONFIG"
EVERYBODY = "*"
# A runtime that leaves when nobody needs it comes back in a second; staying costs some MB.
IDLE_EXIT_EMBEDDED_S = 60.0


class Address(NamedTuple):
    """Where the HTTP port listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: Any, key: str) -> Address | None:
    """ "127.0.0.1:7463", "[::1]:0", "off". Loopback only: nothing listens beyond it without authentication."""
    if value == "off":
        return None
    host, _, port = text(value, key).rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError as error:
        raise ConfigError(f"{key}={value!r}: write an address and a port, like '127.0.0.1:7463', or 'off'.") from error
    if not address.is_loopback:
        raise ConfigError(
            f"{key}={value!r} is reachable from other machines. Use 127.0.0.1, and a proxy that asks who calls."
        )
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{key}={value!r}: {port!r} is no port: 0 (any free one) to 65535.")
    return Address(str(address), int(port))


HTTP_DEFAULT = Address("127.0.0.1", 0)


def _users(value: Any, key: str) -> tuple[int | str, ...]:
    """User ids from names and numbers; "*" stays."""
    return tuple(_identity(name, key, "user", lambda name: pwd.getpwnam(name).pw_uid) for name in words(value, key))


def _groups(value: Any, key: str) -> tuple[int | str, ...]:
    """Group ids from names and numbers."""
    return tuple(_identity(name, key, "group", lambda name: grp.getgrnam(name).gr_gid) for name in words(value, key))


def _identity(name: str, key: str, kind: str, number_of: Any) -> int | str:
    if name == EVERYBODY and kind == "user":
        return name
    try:
        number = int(name) if name.isascii() and name.isdigit() else int(number_of(name))
    except KeyError as error:
        raise ConfigError(
            f"{key}: this machine knows no {kind} {name!r}. Write a number, or add the {kind}."
        ) from error
    if number >= 2**32 - 1 or number == OVERFLOW_UID:
        raise ConfigError(
            f"{key}: {kind} {number} is nobody in particular: the kernel reports it for whom it does not know."
        )
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """Bounds of the daemon's memory and of what one client can ask of it."""

    clients_max: int = setting(
        "clients", count, "Sessions of one user; a process that trains has one, or two while it lists or opens files.",
        default=1024, reload=True,
    )  # fmt: skip
    ring_bytes: int = setting(
        "ring", size, "Shared memory of one client for bytes that are in no slot.", default=8 << 20, reload=True
    )
    requests_per_client_max: int = setting(
        "requests_per_client", count, "Unanswered requests of one client; beyond that it is not read from.",
        default=4096, reload=True,
    )  # fmt: skip
    buffer_bytes: int = setting(
        "buffers", size, "Memory for bytes between origins, disks and rings.", default=256 << 20, reload=True
    )
    file_bytes: int = setting(
        "files", size, "Memory of one pool for whole files that clients share: manifests, indexes. Those that nobody "
        "asked for lately go first.", default=1 << 30, reload=True,
    )  # fmt: skip
    prefetch_bytes: int = setting(
        "prefetch", size, "Bytes of all jobs that are fetched before they are asked for, and not used yet.",
        default=1 << 30, reload=True,
    )  # fmt: skip
    request_timeout_s: float = setting(
        "request_timeout", duration, "The longest that a request for bytes waits for its answer.",
        default=120.0, reload=True,
    )  # fmt: skip
    disk_timeout_s: float = setting(
        "disk_timeout", duration, "A disk operation that takes longer makes the disk suspect.", default=5.0, reload=True
    )
    disk_queue_max: int = setting(
        "disk_queue", count, "Chunks that wait to be written to one disk; more are passed through and not kept.",
        default=64, reload=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskConfig:
    """A folder on a local disk for slabs."""

    name: str
    path: Path = setting("path", absolute_path, "Folder of the cache on this disk; it gets mode 0700.")
    readonly_path: Path | None = setting(
        "readonly_path", optional(absolute_path),
        "Where the same folder is mounted once more, read-only: clients' descriptors are opened there.", default=None,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginConfig:
    """How objects below one URL are reached. What is not set comes from the table `origin`."""

    name: str
    url: str
    endpoint: str | None = setting(
        "endpoint", optional(text), "Address of an S3-compatible service, an emulator or a gateway.", default=None
    )
    region: str | None = setting("region", optional(text), "Region of the bucket.", default=None)
    anonymous: bool = setting("anonymous", switch, "Requests are not signed: for public buckets.", default=False)
    access_key_id: str | None = setting(
        "access_key_id", optional(text), "Key of the account; none: as the cloud's tools find it.", default=None
    )
    secret_access_key: str | None = setting(
        "secret_access_key", optional(text), "Secret of the key.", default=None, secret=True
    )
    session_token: str | None = setting(
        "session_token", optional(text), "Token of temporary credentials.", default=None, secret=True
    )
    credentials_file: Path | None = setting(
        "credentials_file",
        optional(absolute_path),
        "S3: a file like ~/.aws/credentials; GCS: the JSON of a service account. Read again when it changes.",
        default=None,
    )
    profile: str = setting("profile", text, "Which profile of the credentials file.", default="default")
    allow_http: bool = setting("allow_http", switch, "Plain HTTP is allowed for s3, gs and az.", default=False)
    retries_max: int = setting("retries", count_or_zero, "Attempts after the first.", default=8, reload=True)
    timeout_s: float = setting(
        "timeout", duration, "Without a byte for so long, an attempt has failed.", default=20.0, reload=True
    )
    deadline_s: float = setting(
        "deadline", duration, "All attempts of one request together.", default=90.0, reload=True
    )
    slow_bytes_per_s: int = setting(
        "slow", size, "An attempt that is slower, in bytes a second, is given up.", default=128 << 10, reload=True
    )
    backoff_s: float = setting("backoff", duration, "Wait before the first retry.", default=0.1, reload=True)
    backoff_s_max: float = setting(
        "backoff_most", duration, "Each further wait is twice as long, up to this.", default=8.0, reload=True
    )
    retries_per_s: float = setting(
        "retry_rate", count, "Retries a second, of all requests together.", default=50.0, reload=True
    )
    in_flight_max: int = setting("in_flight", count, "Requests at a time.", default=32, reload=True)
    bytes_per_s_max: int | None = setting(
        "rate", optional(size), "Bytes a second, of all requests together; none: no limit.", default=None, reload=True
    )

    def options(self) -> OriginOptions:
        """These settings as storage takes them. ConfigError where they contradict each other."""
        return OriginOptions(**{each.name: getattr(self, each.name) for each in fields(OriginOptions)})


_URL = Setting("url", text, "The URLs that begin so are meant; the longest match wins.", reload=True, secret=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """One trust domain: slabs with one limit, origins with their credentials, and who may read."""

    name: str
    limit_bytes: int = setting(
        "limit", size_or_zero, "Bytes that this pool may hold on all its disks; 0: it keeps nothing.", reload=True
    )
    growth_bytes: int | None = setting(
        "growth", optional(size), "Slabs grow by so much; none: all is allocated at the start.", default=1 << 30
    )
    disk_names: tuple[str, ...] = setting("disks", words, "Names of its disks; empty: all.", default=())
    users: tuple[int | str, ...] = setting(
        "users",
        _users,
        "Who may read everything in the pool: names or numbers; '*': everybody.",
        default=(),
        reload=True,
    )
    groups: tuple[int | str, ...] = setting("groups", _groups, "Groups whose members may.", default=(), reload=True)
    any_origin: bool = setting(
        "any_origin", switch,
        "Users may name any URL, which the daemon reads with its own credentials; else only the pool's origins.",
        default=False, reload=True,
    )  # fmt: skip
    write_bytes_per_day_max: int | None = setting(
        "writes_per_day", optional(size), "Bytes a day that may be written to its disks; none: no budget.",
        default=None, reload=True,
    )  # fmt: skip
    origins: tuple[OriginConfig, ...] = ()
    origin_default: OriginConfig

    def admits(self, uid: int, gids: Collection[int] = ()) -> bool:
        """Whether a process of this user and these groups may use the pool. The overflow ids are nobody's."""
        if uid == OVERFLOW_UID:
            return False
        if EVERYBODY in self.users or uid in self.users:
            return True
        return any(gid in self.groups for gid in gids if gid != OVERFLOW_UID)

    def origin_of(self, url: str) -> OriginConfig | None:
        """The options for `url`: those of the longest prefix, the default where any URL may be named, else None."""
        found = [origin for origin in self.origins if _below(url, origin.url)]
        if found:
            return max(found, key=lambda origin: len(origin.url))
        return self.origin_default if self.any_origin else None


def _below(url: str, prefix: str) -> bool:
    """Whether `url` is `prefix` or lies below it: s3://data is not below s3://dat, nor is anything with ".." in it."""
    inside = url == prefix or url.startswith(prefix if prefix.endswith("/") else prefix + "/")
    return inside and ".." not in url.split("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that the daemon is told."""

    runtime: Path = setting("runtime", absolute_path, "Folder of the socket, the log and locks; it gets mode 0700.")
    words: Path = setting("words", absolute_path, "Folder of the slot words, which readers map: in RAM.")
    words_readonly_path: Path | None = setting(
        "words_readonly_path", optional(absolute_path),
        "Where the same folder is mounted once more, read-only: clients' descriptors are opened there.", default=None,
    )  # fmt: skip
    socket: Path = setting("socket", absolute_path, "The Unix socket that clients connect to.")
    http: Address | None = setting(
        "http", _address, "Loopback address of metrics and page; port 0: any free one; 'off': none.",
        default=HTTP_DEFAULT,
    )  # fmt: skip
    http_users: tuple[int | str, ...] = setting(
        "http_users", _users, "Who may read metrics and page, beside root, the daemon's user and those of the pools.",
        default=(), reload=True,
    )  # fmt: skip
    idle_exit_s: float | None = setting(
        "idle_exit", optional(duration), "Leave after so long without a client; none: never.", default=None, reload=True
    )
    drain_s: float = setting(
        "drain", duration, "How long clients have to leave when the daemon is asked to.", default=30.0, reload=True
    )
    limits: LimitsConfig
    disks: tuple[DiskConfig, ...]
    pools: tuple[PoolConfig, ...]

    def disks_of(self, pool: PoolConfig) -> tuple[DiskConfig, ...]:
        """The disks that a pool uses."""
        return tuple(disk for disk in self.disks if not pool.disk_names or disk.name in pool.disk_names)

    def pool_for(self, uid: int, gids: Collection[int] = (), name: str = "") -> PoolConfig | None:
        """The first pool, in the order of the file, that admits this user, and has this name where one is given; None:
        the user gets nothing."""
        return next((pool for pool in self.pools if name in ("", pool.name) and pool.admits(uid, gids)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration, and where each of its values came from."""

    config: Config
    provenance: tuple[Provenance, ...]
    file: Path | None


def load(
    file: Path | None = None,
    *,
    machine: Machine | None = None,
    flags: Mapping[str, tuple[str, str]] | None = None,
    embedded: bool = False,
) -> Loaded:
    """Read and check the configuration.

    file: a TOML file; default: $FASTFEED_CACHE_CONFIG, else none. flags: dotted key -> (value, flag as typed).
    embedded: the daemon was started by a loader, and leaves when idle. Raises ConfigError, which says where the wrong
    value stands, and OSError for a file that cannot be read.
    """
    machine = Machine.here() if machine is None else machine
    named = machine.environment.get(FILE_VARIABLE)
    if file is None and named:
        file = Path(named)
    given: dict[Key, Given] = {} if file is None else from_file(file)
    given |= from_environment(machine.environment, SHORT_VARIABLES, ignored=[FILE_VARIABLE])
    given |= from_flags(flags or {})
    values = Values(given)
    config = _config(values, machine, embedded)
    values.refuse_rest()
    _check(config, machine)
    if file is not None:
        _check_secrets(config, given, file)
    return Loaded(config=config, provenance=tuple(values.provenance), file=file)


def _config(values: Values, machine: Machine, embedded: bool) -> Config:
    every = settings_of(Config)
    runtime = values.take(("runtime",), every["runtime"], defaults.runtime(machine), "runtime")
    rest: dict[str, Any] = {
        name: values.take((every[name].key,), every[name], default, name)
        for name, default in {
            "words": defaults.words(machine, runtime),
            "socket": defaults.socket(runtime),
            "words_readonly_path": (None, "default"),
            "http": (HTTP_DEFAULT, "default"),
            "http_users": ((), "default"),
            "idle_exit_s": (IDLE_EXIT_EMBEDDED_S if embedded else None, "default"),
            "drain_s": (30.0, "default"),
        }.items()
    }
    limits = values.section(LimitsConfig, ("limits",), {})
    disks = tuple(
        values.section(
            DiskConfig, ("disks", name), {"path": defaults.disk(machine)} if name == DEFAULT_NAME else {}, name=name
        )
        for name in values.names(("disks",)) or [DEFAULT_NAME]
    )
    pool_names = values.names(("pools",)) or [DEFAULT_NAME]
    origin = values.section(OriginConfig, ("origin",), {}, name=DEFAULT_NAME, url="")
    pools = tuple(_pool(values, name, machine, disks, origin, alone=len(pool_names) == 1) for name in pool_names)
    return Config(runtime=runtime, **rest, limits=limits, disks=disks, pools=pools)


def _pool(
    values: Values, name: str, machine: Machine, disks: tuple[DiskConfig, ...], origin: OriginConfig, *, alone: bool
) -> PoolConfig:
    table = ("pools", name)
    fallback: dict[str, Any] = {}
    if alone:
        fallback["limit_bytes"] = defaults.limit(machine, disks[0].path)
    if name == DEFAULT_NAME:
        # The pool of somebody who configured none: only for themselves, and so for all that they may read.
        fallback |= {"users": ((machine.euid,), "default: the daemon's user"), "any_origin": (True, "default")}
    inherited = {field: (getattr(origin, field), "table origin") for field in settings_of(OriginConfig)}
    origins = tuple(
        values.section(
            OriginConfig, (*table, "origins", each), inherited, name=each,
            url=values.take((*table, "origins", each, "url"), _URL, None, "url"),
        )
        for each in values.names((*table, "origins"))
    )  # fmt: skip
    return values.section(PoolConfig, table, fallback, name=name, origins=origins, origin_default=origin)


def _check(config: Config, machine: Machine) -> None:
    """What no single value can tell."""
    check_socket_path(config.socket)
    known = {disk.name for disk in config.disks}
    for pool in config.pools:
        for origin in (pool.origin_default, *pool.origins):
            try:
                origin.options()
            except ConfigError as error:
                where = "origin" if origin is pool.origin_default else f"pools.{pool.name}.origins.{origin.name}"
                raise ConfigError(f"{where}: {error}") from error
        if strange := [name for name in pool.disk_names if name not in known]:
            raise ConfigError(
                f"pools.{pool.name}.disks: there is no disk {strange[0]!r}; there are {', '.join(sorted(known))}."
            )
    paths = [disk.path for disk in config.disks]
    for path in paths:
        if any(path != other and path.is_relative_to(other) for other in paths) or paths.count(path) > 1:
            raise ConfigError(f"disks: {path} is used twice, or lies in the folder of another disk. Give each its own.")
        kind = machine.file_system(path)
        if kind in NETWORK_FILE_SYSTEMS:
            raise ConfigError(
                f"disks: {path} is on {kind}, a network file system. A cache needs a local disk: set disks.NAME.path."
            )


def _check_secrets(config: Config, given: Mapping[Key, Given], file: Path) -> None:
    """Others must not read a file that holds secrets."""
    hidden = {each.key for each in settings_of(OriginConfig).values() if each.secret}
    secrets = [key for key, value in given.items() if key[-1] in hidden and value.source == str(file)]
    if secrets and file.stat().st_mode & 0o077:
        raise ConfigError(
            f"{file}: {dotted(secrets[0])} is a secret, and other users can read the file: chmod 600 {file}"
        )


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that differs between two configurations, as text."""

    key: str
    before: str
    after: str


def reload(before: Loaded, after: Loaded) -> tuple[Loaded, list[Change]]:
    """What a running daemon takes over from `after`, and what changed. ConfigError for changes that need a restart.

    Limits, rates, users and new pools can change. A default that depends on free space does not count as a change:
    the running value stays.
    """
    old = {each.key: each for each in before.provenance}
    new = {each.key: each for each in after.provenance}
    kept = {key for key in old.keys() & new.keys() if _computed(old[key]) and _computed(new[key])}
    gone = sorted({pool.name for pool in before.config.pools} - {pool.name for pool in after.config.pools})
    if gone:
        raise ConfigError(
            f"pools.{gone[0]} is gone from the configuration: that needs a restart of the daemon; nothing was changed."
        )
    added = {f"pools.{pool.name}." for pool in after.config.pools} - {
        f"pools.{pool.name}." for pool in before.config.pools
    }
    changes = []
    for key in sorted(old.keys() | new.keys()):
        was, is_now = old.get(key), new.get(key)
        if key in kept or (was and is_now and was.text == is_now.text):
            continue
        known = is_now or was
        assert known is not None  # one of the two has the key
        if not known.reload and not any(key.startswith(pool) for pool in added):
            raise ConfigError(
                f"{key}: {was.text if was else 'none'} -> {is_now.text if is_now else 'none'} needs a restart of "
                "the daemon; nothing was changed. Limits, rates, users and new pools are taken without."
            )
        changes.append(Change(key, was.text if was else "none", is_now.text if is_now else "none"))
    pools = tuple(
        replace(pool, limit_bytes=_limit_of(before, pool.name, pool.limit_bytes))
        if f"pools.{pool.name}.limit" in kept
        else pool
        for pool in after.config.pools
    )
    provenance = tuple(old[each.key] if each.key in kept else each for each in after.provenance)
    return replace(after, config=replace(after.config, pools=pools), provenance=provenance), changes


def _computed(value: Provenance) -> bool:
    return value.source.startswith("default:")


def _limit_of(loaded: Loaded, name: str, otherwise: int) -> int:
    return next((pool.limit_bytes for pool in loaded.config.pools if pool.name == name), otherwise)
