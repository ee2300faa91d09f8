"""Members of a tar archive, one after the other, from untrusted bytes.

Reads POSIX ustar, pax and GNU archives forwards, from a file or from a decompressed stream. Every header's
checksum is checked and every size is compared with the file's before anything is read; damage is a
CorruptDataError that names the member. An archive must end with its end mark, a block of zeros: without it,
it was cut off. Sparse files are not supported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fastfeed.convert.streams import ByteStream
from fastfeed.errors import CorruptDataError

BLOCK_BYTES = 512
# A name or a pax header longer than this is an attack or damage.
EXTENSION_BYTES_MAX = 1 << 20
# Python and GNU tar fill the last record of an archive with zeros, of 10 KiB by default; this is far above.
PADDING_BYTES_MAX = 1 << 20
REGULAR = (b"0", b"\0", b"7")
# Types whose size says nothing about bytes that follow: links, devices, folders, pipes.
WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")
LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL, SPARSE = b"L", b"K", b"x", b"g", b"S"
ZERO_BLOCK = bytes(BLOCK_BYTES)


class Member(NamedTuple):
    """One member. Names are as they are stored; bytes that are no UTF-8 are surrogates."""

    name: str
    begin: int  # of its first header
    header: bytes  # all of its headers
    size_bytes: int
    is_file: bool  # a regular one


class TarReader:
    """Iterates over the members. `read` gives the content of the current one, once, from its front."""

    def __init__(self, stream: ByteStream, offset: int = 0, stop: int | None = None) -> None:
        """Read `stream`, which begins at `offset` of the archive, up to `stop` or the end mark."""
        self._stream = stream
        self._stop = stop
        self._name = ""
        self._left = 0  # bytes of the current member's content, with its padding, that were not read
        self._content_left = 0
        self.offset = offset  # of the next byte of the stream
        self.end = offset  # of the last member that was passed

    def __iter__(self) -> Iterator[Member]:
        while True:
            self._pass(self._left)
            self._left = 0
            self.end = self.offset
            if self._stop is not None and self.offset >= self._stop:
                return
            member = self._next_member()
            if member is None:
                self._check_padding()
                return
            yield member

    def read(self, count: int | None = None) -> bytes:
        """The next bytes of the current member: all that are left, or at most `count`."""
        wanted = self._content_left if count is None else min(count, self._content_left)
        content = self._take(wanted, self._name)
        self._left -= wanted
        self._content_left -= wanted
        return content

    def _next_member(self) -> Member | None:
        begin = self.offset
        header = b""
        long_name: bytes | None = None
        pax: dict[bytes, bytes] = {}
        while True:
            block = self._take(BLOCK_BYTES, self._name and f"the header after {self._name}")
            if block == ZERO_BLOCK:
                return None
            header += block
            size_bytes = self._checked_size(block)
            kind = block[156:157]
            if kind in (LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL):
                extension = self._extension(size_bytes)
                header += extension
                if kind == LONG_NAME:
                    long_name = extension.rstrip(b"\0")
                elif kind == PAX:
                    pax = pax_records(extension)
                continue
            name = pax.get(b"path", name_of(block) if long_name is None else long_name)
            self._name = name.decode("utf-8", "surrogateescape")
            if kind == SPARSE or any(key.startswith(b"GNU.sparse") for key in pax):
                raise CorruptDataError(f"member {self._name}: is a sparse file, which is not supported. Pack it again.")
            if b"size" in pax:
                size_bytes = decimal(pax[b"size"])
            has_content = kind not in WITHOUT_CONTENT
            self._content_left = size_bytes if has_content else 0
            self._left = -(-self._content_left // BLOCK_BYTES) * BLOCK_BYTES
            is_file = kind in REGULAR and not name.endswith(b"/")
            return Member(self._name, begin, header, self._content_left, is_file)

    def _checked_size(self, block: bytes) -> int:
        after = f"after member {self._name}" if self._name else "at its beginning"
        stored = octal(block[148:156])
        if stored is None or stored != sum(block) - sum(block[148:156]) + 8 * ord(" "):
            raise CorruptDataError(f"has no valid header {after} (at byte {self.offset - BLOCK_BYTES:,})")
        size_bytes = octal(block[124:136])
        if size_bytes is None:
            raise CorruptDataError(f"has a header with an impossible size {after}")
        return size_bytes

    def _extension(self, size_bytes: int) -> bytes:
        if size_bytes > EXTENSION_BYTES_MAX:
            raise CorruptDataError(
                f"has an extended header of {size_bytes:,} bytes after member {self._name}; "
                f"at most {EXTENSION_BYTES_MAX:,}"
            )
        return self._take(-(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES, "an extended header")[:size_bytes]

    def _take(self, count: int, what: str) -> bytes:
        content = self._stream.read(count)
        self.offset += len(content)
        if len(content) < count:
            raise self._cut_off(what)
        return content

    def _pass(self, count: int) -> None:
        passed = self._stream.skip(count)
        self.offset += passed
        if passed < count:
            raise self._cut_off(self._name)

    def _cut_off(self, what: str) -> CorruptDataError:
        within = f"member {what}" if what else "its beginning"
        return CorruptDataError(f"is cut off in {within} (it ends at byte {self.offset:,})")

    def _check_padding(self) -> None:
        rest = self._stream.read(PADDING_BYTES_MAX)
        if rest.strip(b"\0"):
            raise CorruptDataError(
                f"has more after its end mark at byte {self.offset:,}, such as a second archive. Split it."
            )


def name_of(block: bytes) -> bytes:
    """The name in a header."""
    name, prefix = block[:100].partition(b"\0")[0], block[345:500].partition(b"\0")[0]
    return prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name


def octal(field: bytes) -> int | None:
    """A number of a header, octal or in base 256; None where it is none."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.strip(b" \0")
    try:
        number = int(text or b"0", 8)
    except ValueError:
        return None
    return number if number >= 0 else None


def decimal(text: bytes) -> int:
    """A size of a pax header. CorruptDataError where it is none."""
    if not text.isdigit() or len(text) > 18:
        raise CorruptDataError(f"has an extended header with the size {text[:40]!r}")
    return int(text)


def pax_records(content: bytes) -> dict[bytes, bytes]:
    """The records of a pax header: "<length> <key>=<value>\\n"."""
    records = {}
    while content:
        length, _, _ = content.partition(b" ")
        size = int(length) if length.isdigit() and len(length) < 9 else 0
        record = content[len(length) + 1 : size]
        key, equals, value = record.partition(b"=")
        if not (len(length) + 2 < size <= len(content) and equals and value.endswith(b"\n")):
            raise CorruptDataError("has a damaged extended header")
        records[key] = value[:-1]
        content = content[size:]
    return records
