"""What sources of many files have in common: where they are, what of them is wanted, how large an item is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fastfeed.convert.files import folder_of
from fastfeed.convert.wanted import Wanted

# Of the input in one item, about, where a file can be cut; and what a worker reads before it encodes.
ITEM_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class FilesSource:
    """The part of a `Source` that does not depend on what is in the files."""

    root: Path
    wanted: Wanted = field(default_factory=Wanted)
    item_bytes: int = ITEM_BYTES

    @property
    def folder(self) -> Path:
        return folder_of(self.root)

    @property
    def image_size(self) -> int | None:
        return self.wanted.image_size

    def options(self) -> dict[str, object]:
        return self.wanted.options()
