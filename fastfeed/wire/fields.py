"""The bodies of control messages: fields with tags, declared once a message and read by both sides.

A field is u16 tag, u16 reserved (0), u32 length, bytes. Tags that are not known are skipped, so either side may be
newer; a field without a default must be there; one that may come once may not come twice. Pure: bytes in,
values out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import Any, Protocol, TypeVar, cast

from fastfeed.wire.framing import ProtocolError

_FIELD = struct.Struct("<HHI")
_U64 = struct.Struct("<Q")
U64_MAX = (1 << 64) - 1

M = TypeVar("M")


class Kind(Protocol):
    """How a value is stored. Both directions raise ProtocolError where a limit is passed."""

    def encode(self, value: Any) -> bytes: ...
    def decode(self, data: bytes) -> Any: ...


@dataclass(frozen=True, slots=True)
class Number:
    """u64, at most `limit`."""

    limit: int

    def encode(self, value: Any) -> bytes:
        return _U64.pack(self._checked(value))

    def decode(self, data: bytes) -> int:
        if len(data) != _U64.size:
            raise ProtocolError(f"a number of {len(data)} bytes")
        return self._checked(_U64.unpack(data)[0])

    def _checked(self, value: int) -> int:
        if not 0 <= value <= self.limit:
            raise ProtocolError(f"the number {value}, which must be in 0 .. {self.limit}")
        return value


@dataclass(frozen=True, slots=True)
class Blob:
    """At most `limit` bytes; exactly so many if `exact`."""

    limit: int
    exact: bool = False

    def encode(self, value: Any) -> bytes:
        return self.decode(value)

    def decode(self, data: bytes) -> bytes:
        if len(data) > self.limit or (self.exact and len(data) != self.limit):
            raise ProtocolError(f"{len(data)} bytes, {'exactly' if self.exact else 'at most'} {self.limit} are allowed")
        return data


@dataclass(frozen=True, slots=True)
class Text:
    """UTF-8, at most `limit` bytes."""

    limit: int

    def encode(self, value: Any) -> bytes:
        return Blob(self.limit).encode(value.encode("utf-8", "surrogateescape"))

    def decode(self, data: bytes) -> str:
        # Object names need not be UTF-8 either: what does not decode survives the way through a str.
        return Blob(self.limit).decode(data).decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two u64."""

    def encode(self, value: Any) -> bytes:
        first, second = value
        return Number(U64_MAX).encode(first) + Number(U64_MAX).encode(second)

    def decode(self, data: bytes) -> tuple[int, int]:
        number = Number(U64_MAX)
        return number.decode(data[:8]), number.decode(data[8:])


@dataclass(frozen=True, slots=True)
class _Field:
    tag: int
    kind: Kind
    count_max: int | None = None  # None: once; else a tuple of so many at most


def number(tag: int, *, limit: int = U64_MAX, default: int | None = None) -> Any:
    """A whole number."""
    return _declared(tag, Number(limit), default)


def text(tag: int, *, limit: int, default: str | None = None) -> Any:
    """A text; `limit` in bytes."""
    return _declared(tag, Text(limit), default)


def blob(tag: int, *, limit: int, exact: bool = False, default: bytes | None = None) -> Any:
    """Bytes."""
    return _declared(tag, Blob(limit, exact), default)


def pairs(tag: int, *, count_max: int) -> Any:
    """A tuple of pairs of numbers, empty if there are none."""
    return field(default=(), metadata={"wire": _Field(tag, Pair(), count_max)})


def encode_fields(message: object) -> bytes:
    """The body of a message. Fields that have their default are left out."""
    parts: list[bytes] = []
    for name, (declared, default) in _declarations(cast(Hashable, type(message))).items():
        value = getattr(message, name)
        if value == default:
            continue
        for each in [value] if declared.count_max is None else value:
            try:
                data = declared.kind.encode(each)
            except ProtocolError as error:
                raise _named(message, name, error) from error
            parts += [_FIELD.pack(declared.tag, 0, len(data)), data]
    return b"".join(parts)


def decode_fields(message_type: Callable[..., M], body: memoryview) -> M:
    """The message in a body. ProtocolError names message and field."""
    declared = _declarations(cast(Hashable, message_type))
    by_tag = {each.tag: (name, each) for name, (each, _) in declared.items()}
    values: dict[str, Any] = {}
    for tag, data in _split(body):
        name, found = by_tag.get(tag, ("", None))
        if found is None:
            continue  # of a newer version
        try:
            value = found.kind.decode(data)
            if found.count_max is None and name in values:
                raise ProtocolError("comes twice")
            if found.count_max is not None and len(values.get(name, ())) == found.count_max:
                raise ProtocolError(f"comes more than {found.count_max} times")
        except ProtocolError as error:
            raise _named(message_type, name, error) from error
        values[name] = value if found.count_max is None else (*values.get(name, ()), value)
    missing = [name for name, (_, default) in declared.items() if default is MISSING and name not in values]
    if missing:
        raise ProtocolError(f"{_name(message_type)}: lacks {', '.join(missing)}")
    return message_type(**values)


def _declared(tag: int, kind: Kind, default: object) -> Any:
    metadata = {"wire": _Field(tag, kind)}
    return field(metadata=metadata) if default is None else field(default=default, metadata=metadata)


@cache
def _declarations(message_type: Any) -> dict[str, tuple[_Field, Any]]:
    return {each.name: (each.metadata["wire"], each.default) for each in fields(message_type)}


def _split(body: memoryview) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(body):
        if len(body) - at < _FIELD.size:
            raise ProtocolError(f"{len(body) - at} bytes at the end of a body are no field")
        tag, _, size = _FIELD.unpack_from(body, at)
        at += _FIELD.size
        if size > len(body) - at:
            raise ProtocolError(f"the field {tag} has {size} bytes, the body {len(body) - at} more")
        yield tag, bytes(body[at : at + size])
        at += size


def _name(message: Any) -> str:
    return str(getattr(message, "__name__", type(message).__name__))


def _named(message: Any, name: str, error: ProtocolError) -> ProtocolError:
    return ProtocolError(f"{_name(message)}.{name}: {error.text}", error.code)


__all__: Sequence[str] = ["U64_MAX", "blob", "decode_fields", "encode_fields", "number", "pairs", "text"]
