"""Settings from a TOML file, the environment and flags, with the origin of every value. Knows no setting by name.

A setting is a field of a frozen dataclass, declared by `setting(...)`; its key in the file is the path of table names
to it, as in `pools.default.limit`. Values come, the later ones winning, from

1. the default,   2. the file,   3. the environment: FASTFEED_CACHE_POOLS__DEFAULT__LIMIT,   4. flags.

`Values.take` reads one and notes where it came from; `Values.refuse_rest` refuses what nobody asked for, so that a
typing mistake is an error and never ignored.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from fastfeed.errors import ConfigError
from fastfeed.format.durations import parse_duration_s
from fastfeed.format.sizes import format_size, parse_size

PREFIX = "FASTFEED_CACHE_"
# Between the parts of a key in a variable's name: names of settings contain single underscores.
ENVIRONMENT_SEPARATOR = "__"
# A configuration is a page of text; a larger file is another file.
FILE_BYTES_MAX = 1 << 20
# Names of pools, disks and origins: they become folder names, labels of metrics and parts of variables' names.
NAME = re.compile(r"(?!.*__)[a-z][a-z0-9_-]{0,31}")
COUNT_MAX = 1 << 32
SECRET_TEXT = "(hidden)"

Key = tuple[str, ...]
Parse = Callable[[Any, str], Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """How one field is written in the file."""

    key: str
    parse: Parse
    doc: str
    reload: bool
    secret: bool


@dataclass(frozen=True, slots=True)
class Given:
    """A value as somebody wrote it, and where."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """One value in use, for people: its key, its text, where it came from, and what it is for."""

    key: str
    text: str
    source: str
    reload: bool
    doc: str


_NOT_GIVEN = Given(None, "")


class Fields(Protocol):
    """A dataclass, as far as its fields are concerned."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Section = TypeVar("Section", bound=Fields)


def setting(
    key: str, parse: Parse, doc: str, *, default: Any = MISSING, reload: bool = False, secret: bool = False
) -> Any:
    """A dataclass field that a configuration sets. reload: a running daemon takes a new value on SIGHUP."""
    return field(default=default, metadata={"setting": Setting(key, parse, doc, reload, secret)})


def settings_of(section: type[Fields]) -> dict[str, Setting]:
    """Field name -> its setting."""
    return {each.name: each.metadata["setting"] for each in fields(section) if "setting" in each.metadata}


class Values:
    """What was given, by key. Reading a value notes its provenance."""

    def __init__(self, given: Mapping[Key, Given]) -> None:
        self._given = dict(given)
        self._known: set[Key] = set()
        self.provenance: list[Provenance] = []

    def names(self, table: Key) -> list[str]:
        """The names of the tables below `table`, in the order of their first appearance."""
        depth = len(table)
        found = dict.fromkeys(key[depth] for key in self._given if key[:depth] == table and len(key) > depth)
        # `[pools.mine]` with nothing below it is a pool of defaults.
        self._known |= {(*table, name) for name in found if self._given.get((*table, name), _NOT_GIVEN).value == {}}
        for name in found:
            if not NAME.fullmatch(name):
                raise ConfigError(
                    f"{dotted((*table, name))}: {name!r} is no name: 1 to 32 of a-z, 0-9, '-', '_'; a letter first."
                )
        return list(found)

    def section(
        self, kind: type[Section], table: Key, defaults: Mapping[str, tuple[Any, str]], **others: Any
    ) -> Section:
        """Read one dataclass from `table`. `defaults`: field -> (value, why), where it depends on the machine."""
        values = {
            name: self.take((*table, each.key), each, _default_of(kind, name, defaults), name)
            for name, each in settings_of(kind).items()
        }
        return kind(**values, **others)

    def take(self, key: Key, each: Setting, default: tuple[Any, str] | None, field_name: str) -> Any:
        """The value of one setting. ConfigError where it was not given and has no default."""
        self._known.add(key)
        found = self._given.get(key)
        if found is not None:
            try:
                value = each.parse(found.value, dotted(key))
            except ConfigError as error:
                raise ConfigError(f"{found.source}: {error}") from error
            source = found.source
        elif default is not None:
            value, source = default
        else:
            raise ConfigError(f"{dotted(key)} is not set: {each.doc} Set it in the file, or as {variable(key)}.")
        text = SECRET_TEXT if each.secret and value is not None else text_of(value, field_name)
        self.provenance.append(Provenance(dotted(key), text, source, each.reload, each.doc))
        return value

    def refuse_rest(self) -> None:
        """ConfigError for the first value that no setting took."""
        for key, given in self._given.items():
            if key not in self._known:
                near = difflib.get_close_matches(dotted(key), map(dotted, self._known), n=1)
                hint = f" Did you mean {near[0]}?" if near else " `fastfeed cache config` lists all settings."
                raise ConfigError(f"{given.source}: there is no setting {dotted(key)}.{hint}")


def _default_of(kind: type[Fields], name: str, defaults: Mapping[str, tuple[Any, str]]) -> tuple[Any, str] | None:
    if name in defaults:
        return defaults[name]
    default = next(each.default for each in fields(kind) if each.name == name)
    return None if default is MISSING else (default, "default")


# --- sources ------------------------------------------------------------------------------------------------------


def from_file(path: Path) -> dict[Key, Given]:
    """The values of a TOML file. ConfigError for a file that is no TOML; OSError where it cannot be read."""
    with path.open("rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"{path}: a configuration has at most {FILE_BYTES_MAX} bytes.")
    try:
        table = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: this is no TOML: {error}") from error
    return {key: Given(value, str(path)) for key, value in _flat(table, ())}


def _flat(table: Mapping[str, Any], above: Key) -> Iterable[tuple[Key, Any]]:
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, (*above, name))
        else:
            yield (*above, name), value


def from_environment(
    environment: Mapping[str, str], short: Mapping[str, Key], ignored: Iterable[str]
) -> dict[Key, Given]:
    """The values of FASTFEED_CACHE_* variables. `short`: names that mean a key; `ignored`: names that mean none."""
    given = {}
    for name in sorted(environment):
        if name in ignored or not environment[name]:
            continue
        if name in short:
            given[short[name]] = Given(environment[name], f"${name}")
        elif name.startswith(PREFIX):
            key = tuple(name[len(PREFIX) :].lower().split(ENVIRONMENT_SEPARATOR))
            given[key] = Given(environment[name], f"${name}")
    return given


def from_flags(flags: Mapping[str, tuple[str, str]]) -> dict[Key, Given]:
    """The values of flags: dotted key -> (value, the flag as it was typed)."""
    return {tuple(key.split(".")): Given(value, flag) for key, (value, flag) in flags.items()}


def dotted(key: Key) -> str:
    return ".".join(key)


def variable(key: Key) -> str:
    """The environment's name for `key`."""
    return PREFIX + ENVIRONMENT_SEPARATOR.join(key).upper()


# --- values -------------------------------------------------------------------------------------------------------


def text_of(value: Any, field_name: str) -> str:
    """A value as `fastfeed cache config` shows it. Names of fields carry the unit."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if "bytes" in field_name.split("_"):
        return f"{value} ({format_size(value)})"
    if field_name.endswith("_per_s"):
        return f"{value:g} a second"
    if field_name.endswith(("_s", "_s_max")):
        return f"{value:g} s"
    if type(value) is tuple:
        return ", ".join(map(str, value)) or "none"
    return str(value)


def size(value: Any, key: str) -> int:
    """Bytes: 1048576, "1MiB"."""
    return parse_size(value, key)


def size_or_zero(value: Any, key: str) -> int:
    """Bytes, or 0."""
    return 0 if value in (0, "0") and not isinstance(value, bool) else parse_size(value, key)


def optional(parse: Parse) -> Parse:
    """What `parse` reads, or "none"."""

    def read(value: Any, key: str) -> Any:
        return None if value == "none" else parse(value, key)

    return read


def duration(value: Any, key: str) -> float:
    """Seconds: 60, "60s", "5m"."""
    if not isinstance(value, (str, int, float)):
        raise ConfigError(f"{key}={value!r} is no span of time: write seconds, or '30m'.")
    return parse_duration_s(value, key)


def count(value: Any, key: str) -> int:
    """A whole number of at least 1."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= COUNT_MAX:
        raise ConfigError(f"{key}={value!r} is not a whole number from 1 to {COUNT_MAX}.")
    return value


def count_or_zero(value: Any, key: str) -> int:
    """A whole number of at least 0."""
    return 0 if value in (0, "0") and not isinstance(value, bool) else count(value, key)


def switch(value: Any, key: str) -> bool:
    """true or false."""
    if isinstance(value, str):
        value = {"true": True, "false": False, "1": True, "0": False}.get(value.lower(), value)
    if not isinstance(value, bool):
        raise ConfigError(f"{key}={value!r}: write true or false.")
    return value


def text(value: Any, key: str) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key}={value!r}: write some text.")
    return value


def absolute_path(value: Any, key: str) -> Path:
    """An absolute path; ~ is the home."""
    path = Path(text(value, key)).expanduser()
    if not path.is_absolute():
        raise ConfigError(f"{key}={value!r} is a relative path: a daemon has no working folder. Write it from /.")
    return path


def words(value: Any, key: str) -> tuple[str, ...]:
    """A list of texts; in the environment and in flags with commas between them."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not all(isinstance(each, (str, int)) for each in value):
        raise ConfigError(f"{key}={value!r}: write a list of names.")
    return tuple(map(str, value))
