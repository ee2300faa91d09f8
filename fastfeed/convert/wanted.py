"""Which columns of the input become which columns of the dataset: --columns, --rename, --schema.

Pure values, the same for every source: a source says what it has found, under its own names; here that
becomes the schema. `columns` and the left side of `rename` are the source's names, the keys of `types` are
the dataset's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fastfeed.errors import ConfigError
from fastfeed.format.schema import ColumnType, Image, Schema
from fastfeed.format.wording import few


@dataclass(frozen=True, kw_only=True)
class GivenType:
    """A type from --schema. `nullable=None`: as the source has found it."""

    column: ColumnType
    nullable: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the user asked for. The default: everything, as it was found."""

    columns: tuple[str, ...] | None = None
    rename: tuple[tuple[str, str], ...] = ()
    types: Mapping[str, GivenType] = field(default_factory=dict)
    image_size: int | None = None  # the shorter side of images that are larger, in pixels

    def __post_init__(self) -> None:
        for what, names in (("--columns", self.columns or ()), ("--rename", [old for old, _ in self.rename])):
            twice = sorted({name for name in names if list(names).count(name) > 1})
            if twice:
                raise ConfigError(f"{what} names {', '.join(map(repr, twice))} twice.")

    def options(self) -> dict[str, object]:
        """What of it decides the rows, JSON-able; nothing for what was not asked for."""
        options: dict[str, object] = {}
        if self.columns is not None:
            options["columns"] = list(self.columns)
        if self.rename:
            options["rename"] = dict(self.rename)
        if self.types:
            options["schema"] = {
                name: f"{given.column!r} nullable={given.nullable}" for name, given in self.types.items()
            }
        if self.image_size is not None:
            options["image_size"] = self.image_size
        return options

    def source_names(self, found: Sequence[str]) -> dict[str, str]:
        """Name in the dataset -> name in the source, in order. ConfigError where a name is not in `found`."""
        chosen = list(found) if self.columns is None else list(self.columns)
        new_names = dict(self.rename)
        for what, names in (("--columns", chosen), ("--rename", new_names)):
            missing = [name for name in names if name not in found]
            if missing:
                raise ConfigError(
                    f"{what}: there is no column {missing[0]!r} in the source. It has {few(list(map(repr, found)))}."
                )
        unused = [name for name in new_names if name not in chosen]
        if unused:
            raise ConfigError(
                f"--rename: {unused[0]!r} is not among --columns {','.join(chosen)}. Add it, or leave it."
            )
        sources: dict[str, str] = {}
        for old in chosen:
            new = new_names.get(old, old)
            if new in sources:
                raise ConfigError(f"the columns {sources[new]!r} and {old!r} would both be {new!r}: use --rename.")
            sources[new] = old
        strange = [name for name in self.types if name not in sources]
        if strange:
            raise ConfigError(
                f"--schema: there is no column {strange[0]!r} in the dataset. It has {few(list(map(repr, sources)))}."
            )
        return sources

    def given(self, name: str) -> GivenType | None:
        """The type that --schema gives to a column of the dataset."""
        return self.types.get(name)

    def schema(self, found: Mapping[str, ColumnType]) -> Schema:
        """The dataset's schema, where the source has found these columns."""
        columns: dict[str, ColumnType] = {}
        for new, old in self.source_names(list(found)).items():
            given = self.given(new)
            columns[new] = found[old] if given is None else as_given(given, found[old].nullable)
        schema = Schema(columns)
        if self.image_size is not None and not any(isinstance(column, Image) for column in schema.values()):
            raise ConfigError(f"--image-size: there is no column of images. The columns are {few(schema.names)}.")
        return schema

    def new_name(self, source_name: str) -> str:
        """The dataset's name of a column of the source."""
        return dict(self.rename).get(source_name, source_name)

    def source_name(self, name: str) -> str:
        """The source's name of a column of the dataset."""
        return next((old for old, new in self.rename if new == name), name)


def as_given(given: GivenType, found_nullable: bool) -> ColumnType:
    """The type of a column that --schema has a word on."""
    nullable = found_nullable if given.nullable is None else given.nullable
    return dataclasses.replace(given.column, nullable=nullable)


def parse_names(texts: Iterable[str]) -> tuple[str, ...]:
    """["a,b", "c"] -> ("a", "b", "c"). ConfigError where a name is empty."""
    names = tuple(name.strip() for text in texts for name in text.split(","))
    if "" in names:
        raise ConfigError(f"--columns {','.join(texts)}: has an empty name.")
    return names


def parse_renames(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """["a=b,c=d"] -> (("a", "b"), ("c", "d")). ConfigError where one is not OLD=NEW."""
    pairs = []
    for part in (part.strip() for text in texts for part in text.split(",")):
        old, equals, new = part.partition("=")
        if not (old and equals and new):
            raise ConfigError(f"--rename {part!r}: write OLD=NEW, several with commas between them.")
        pairs.append((old, new))
    return tuple(pairs)
