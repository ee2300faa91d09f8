"""A slab that fails as it is told: for tests of disks, and for trying out what a failure does.

    faults = SlabFaults()
    pool = Pool.open(options, evictor, Machine(slab=faults.slab))
    faults.set("fill", Fault.EIO)       # every slab that was made from now on, and those that are there
    faults.set("fill", Fault.NONE, path=disk_path)
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from fastfeed._native.cache import SLOT_BYTES, Ring, SlotInfo, SlotWords
from fastfeed.cache.slab_file import SlabFile, SlabIo
from fastfeed.errors import ConfigError

OPERATIONS = ("fill", "verify", "read", "allocate", "truncate", "sync")


class Fault(Enum):
    """What an operation does."""

    NONE = "none"
    EIO = "eio"  # fails, and nothing was done
    TORN = "torn"  # a fill that fails after half of the bytes, and before its trailer
    KILLED = "killed"  # the same, and the process is gone: KilledError, which nothing may catch
    ENOSPC = "enospc"  # the disk is full; a fill finds out after half of the bytes
    HANG = "hang"  # waits until `release`


class KilledError(BaseException):
    """Where the process would have ended."""


class SlabFaults:
    """What all slabs made by `slab` do. Thread-safe. `calls` counts what was asked of them."""

    def __init__(self) -> None:
        self._faults: dict[tuple[str, Path | None], Fault] = {}
        self._go = threading.Event()
        self.calls: dict[str, int] = dict.fromkeys(OPERATIONS, 0)

    def set(self, operation: str, fault: Fault, path: Path | None = None) -> None:
        """From now on; `path`: only slabs below that folder."""
        if operation not in OPERATIONS:
            raise ConfigError(f"a slab has no operation {operation!r}: there are {', '.join(OPERATIONS)}.")
        self._faults[operation, path] = fault
        if fault is Fault.HANG:
            self._go.clear()

    def clear(self) -> None:
        """Everything works again, and what hangs goes on."""
        self._faults.clear()
        self.release()

    def release(self) -> None:
        """What hangs goes on."""
        self._go.set()

    def slab(self, path: Path, first_slot: int, slots: int, sync: Callable[[int], None]) -> SlabIo:
        """For `Machine(slab=...)`."""
        return FaultySlab(SlabFile(path, first_slot, slots, sync), path, first_slot, self)

    def meet(self, operation: str, path: Path) -> Fault:
        """Do what was said for this operation. Returns the fault, where it is for the caller to do; raises OSError."""
        self.calls[operation] += 1
        found = [fault for (name, folder), fault in self._faults.items()
                 if name == operation and (folder is None or path.is_relative_to(folder))]  # fmt: skip
        fault = found[-1] if found else Fault.NONE
        if fault is Fault.EIO:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        if fault is Fault.ENOSPC and operation != "fill":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if fault is Fault.HANG:
            self._go.wait()
        return fault


class FaultySlab:
    """Wraps `inner`; see SlabIo for the methods."""

    def __init__(self, inner: SlabIo, path: Path, first_slot: int, faults: SlabFaults) -> None:
        self._inner = inner
        self._path = path
        self._first_slot = first_slot
        self._faults = faults

    def fill(self, words: SlotWords, slot: int, key: bytes, chunk: int, data: Any) -> int:
        fault = self._faults.meet("fill", self._path)
        if fault in (Fault.TORN, Fault.KILLED, Fault.ENOSPC):
            words.begin(slot)
            with open(self._path, "r+b") as file:
                file.seek((slot - self._first_slot) * SLOT_BYTES)
                file.write(memoryview(data).cast("B")[: max(1, len(data) // 2)])
            if fault is Fault.KILLED:
                raise KilledError(f"while slot {slot} was written")
            code = errno.ENOSPC if fault is Fault.ENOSPC else errno.EIO
            raise OSError(code, os.strerror(code), str(self._path))
        return self._inner.fill(words, slot, key, chunk, data)

    def verify(self, slot: int) -> SlotInfo | None:
        self._faults.meet("verify", self._path)
        return self._inner.verify(slot)

    def read(
        self, words: SlotWords, slot: int, generation: int, key: bytes, chunk: int, offset: int, length: int
    ) -> bytes | None:
        self._faults.meet("read", self._path)
        return self._inner.read(words, slot, generation, key, chunk, offset, length)

    def read_into(
        self, words: SlotWords, slot: int, generation: int, key: bytes, chunk: int, offset: int, ring: Ring, at: int,
        length: int,
    ) -> bool:  # fmt: skip
        self._faults.meet("read", self._path)
        return self._inner.read_into(words, slot, generation, key, chunk, offset, ring, at, length)

    def allocate(self, slots: int) -> None:
        self._faults.meet("allocate", self._path)
        self._inner.allocate(slots)

    def truncate(self, slots: int) -> None:
        self._faults.meet("truncate", self._path)
        self._inner.truncate(slots)

    def sync(self) -> None:
        self._faults.meet("sync", self._path)
        self._inner.sync()

    def allocated_slots(self) -> int:
        return self._inner.allocated_slots()

    def forget_pages(self, slot: int) -> None:
        self._inner.forget_pages(slot)

    def is_alone(self) -> bool:
        return self._inner.is_alone()

    def close(self) -> None:
        self._inner.close()
