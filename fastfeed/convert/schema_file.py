"""The file of --schema: a JSON object from column names to types.

{"caption": {"type": "text", "codec": "zstd"},
 "label": {"type": "scalar", "dtype": "int16"},
 "embedding": {"type": "tensor", "dtype": "float16", "shape": [768]},
 "boxes": {"type": "array", "dtype": "float32", "shape": [null, 4], "nullable": true}}

Names are the dataset's (after --rename). Columns that it does not name are found as without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastfeed.convert.wanted import GivenType
from fastfeed.errors import ConfigError
from fastfeed.format.schema import Array, Bytes, ColumnType, Image, Json, Scalar, Tensor, Text

# Type -> (class, words that it needs, words that it may have).
TYPES: dict[str, tuple[type[ColumnType], tuple[str, ...], tuple[str, ...]]] = {
    "scalar": (Scalar, ("dtype",), ()),
    "tensor": (Tensor, ("dtype", "shape"), ()),
    "array": (Array, ("dtype", "shape"), ("codec",)),
    "bytes": (Bytes, (), ("codec",)),
    "text": (Text, (), ("codec",)),
    "json": (Json, (), ("codec",)),
    "image": (Image, (), ("codec",)),
}
# A schema of the most columns that a dataset may have, with long names, stays far below.
SCHEMA_FILE_BYTES_MAX = 16 << 20


def read_schema_file(path: Path) -> dict[str, GivenType]:
    """The types that a file gives. ConfigError says what in it does not make sense; OSError where it cannot be read."""
    with path.open("rb") as file:
        content = file.read(SCHEMA_FILE_BYTES_MAX + 1)
    if len(content) > SCHEMA_FILE_BYTES_MAX:
        raise ConfigError(f"{path}: has more than {SCHEMA_FILE_BYTES_MAX:,} bytes, too many for a schema.")
    try:
        columns = json.loads(content)
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON: {error}.") from error
    if not isinstance(columns, dict):
        raise ConfigError(f'{path}: must be an object like {{"label": {{"type": "scalar", "dtype": "int64"}}}}.')
    given = {}
    for name, words in columns.items():
        try:
            given[name] = given_type(words)
        except (ConfigError, TypeError, ValueError) as error:
            raise ConfigError(f"{path}: column {name!r}: {error}") from error
    return given


def given_type(words: Any) -> GivenType:
    """The type that the words of one column give."""
    if not isinstance(words, Mapping) or words.get("type") not in TYPES:
        raise ConfigError(f'{json.dumps(words)} gives no known "type". Known: {", ".join(TYPES)}.')
    make, needed, allowed = TYPES[words["type"]]
    missing = [word for word in needed if word not in words]
    unknown = [word for word in words if word not in ("type", "nullable", *needed, *allowed)]
    if missing or unknown:
        what = f"needs {missing[0]!r}" if missing else f"has no {unknown[0]!r}"
        raise ConfigError(
            f"a column of type {words['type']} {what}. It takes {', '.join(('type', 'nullable', *needed, *allowed))}."
        )
    nullable = words.get("nullable")
    if nullable not in (None, True, False):
        raise ConfigError(f'"nullable" is true or false, not {json.dumps(nullable)}.')
    arguments = {word: words[word] for word in (*needed, *allowed) if word in words}
    return GivenType(column=make(**arguments), nullable=nullable)
