"""Many small files at once, as a conversion reads them: one call without the GIL, so that threads do not wait for each
other at every open, read and close.
"""

from __future__ import annotations

from fastfeed._native.files import read_whole_files

__all__ = ["read_whole_files"]
