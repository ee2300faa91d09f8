"""The memory of batches, registered with the GPU: copies to it then start at once and read the batch itself.

The pages of a batch's slot are registered when they are handed out for the first time, and stay so while slots are
used again. A slot may not be filled anew while a copy still reads it: when the last tensor of a batch is dropped, an
event is recorded on the current stream of the loader's device, and the slot waits for it. So a copy that was started on
another stream has to be waited for by the current one (`wait_stream`) before the batch is dropped.

Thread-safe: batches may be dropped by any thread, also in the middle of a call, by the garbage collector.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Any, Protocol

import torch

log = logging.getLogger("fastfeed")

# Known to all contexts of the process, whatever the current device is (cudaHostRegisterPortable).
REGISTER_PORTABLE = 1
_SUCCESS = 0


class Event(Protocol):
    """What is needed of a torch.cuda.Event that was recorded."""

    def query(self) -> bool: ...


class Device(Protocol):
    """What is needed of CUDA. Codes are numbers of cudaError, 0 for success."""

    def register(self, address: int, size_bytes: int) -> int: ...
    def unregister(self, address: int) -> int: ...
    def record(self) -> Event:
        """An event that comes behind what the current stream was given so far."""


class CudaDevice:
    """CUDA through torch: the device that is current when this is made. Batches may be dropped by a thread whose own
    current device is another one: that of a thread begins as 0."""

    def __init__(self) -> None:
        self._device = torch.cuda.current_device()

    def register(self, address: int, size_bytes: int) -> int:
        return int(_cudart().cudaHostRegister(address, size_bytes, REGISTER_PORTABLE))

    def unregister(self, address: int) -> int:
        return int(_cudart().cudaHostUnregister(address))

    def record(self) -> Event:
        event: Event = torch.cuda.current_stream(self._device).record_event()
        return event


def _cudart() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


class HostPinner:
    """The native reader's `Pinner` for a CUDA device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.has_refused = False
        # Of the memory of dropped batches, oldest first, each with the event that frees it. Re-entrant: the collector
        # may drop a batch in the middle of any line below.
        self._lock = threading.RLock()
        self._held: deque[tuple[Event, object]] = deque()

    def pin(self, address: int, size_bytes: int) -> bool:
        """Register pages. Where the device refuses, it is asked no more, and batches are copied as before."""
        self._let_go()
        if self.has_refused:
            return False
        code = self._device.register(address, size_bytes)
        if code != _SUCCESS:
            self.has_refused = True
            log.warning("cudaHostRegister refused %d bytes (error %d): batches are copied into pinned memory instead. "
                        "Is the limit of locked memory too low (ulimit -l)?", size_bytes, code)
        return code == _SUCCESS

    def unpin(self, address: int) -> None:
        """The pages are about to be unmapped."""
        code = self._device.unregister(address)
        if code != _SUCCESS:
            log.warning("cudaHostUnregister failed for the memory of a batch (error %d)", code)

    def hold(self, memory: object) -> None:
        """Keep `memory` until what the current stream was given so far is done."""
        event = self._device.record()
        with self._lock:
            self._held.append((event, memory))
        self._let_go()

    def held(self) -> int:
        """Dropped batches whose copies are not known to be done."""
        return len(self._held)

    def _let_go(self) -> None:
        with self._lock:
            while self._held and self._held[0][0].query():
                self._held.popleft()
