"""Batches in memory that is registered with a device: a stand-in for CUDA keeps the books."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import fastfeed.torch as fft
from fastfeed.dataset.writer import DatasetWriter
from fastfeed.format.schema import Scalar, Schema, Tensor, Text
from fastfeed.torch.pinning import Device, HostPinner

ROWS = 400


class FakeEvent:
    """Done when its device says so."""

    def __init__(self, device: FakeDevice, number: int) -> None:
        self._device, self._number = device, number

    def query(self) -> bool:
        return self._number <= self._device.done


class FakeDevice:
    """Pages that are registered, and copies that are done up to event `done`. refuses: registers nothing."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.pages: dict[int, int] = {}
        self.registered = self.asked = self.recorded = 0
        self.done: float = float("inf")

    def register(self, address: int, size_bytes: int) -> int:
        self.asked += 1
        if self.refuses:
            return 2  # cudaErrorMemoryAllocation
        assert address % 4096 == size_bytes % 4096 == 0
        assert all(address >= at + size or address + size_bytes <= at for at, size in self.pages.items())
        self.pages[address] = size_bytes
        self.registered += 1
        return 0

    def unregister(self, address: int) -> int:
        assert is_mapped(address), "pages go back to the system after they were unregistered"
        del self.pages[address]
        return 0

    def record(self) -> FakeEvent:
        self.recorded += 1
        return FakeEvent(self, self.recorded)

    def holds(self, tensor: torch.Tensor) -> bool:
        first, last = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        return any(at <= first and last <= at + size for at, size in self.pages.items())


def is_mapped(address: int) -> bool:
    ranges = (line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines())
    return any(int(first, 16) <= address < int(last, 16) for first, last in ranges)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pinned") / "data"
    with DatasetWriter(place, Schema({"id": Scalar("int64"), "x": Tensor("float32", (64,)), "text": Text()})) as writer:
        for row in range(ROWS):
            writer.write({"id": row, "x": np.full(64, row, np.float32), "text": "t" * (row % 70)})
    return place


def loader_on(place: Path, device: FakeDevice, **options: object) -> fft.Loader:
    class Loader(fft.Loader):
        """On a machine whose GPU is `device`."""

        def _has_gpu(self) -> bool:
            return True

        def _cuda(self) -> Device:
            return device

    return Loader(place, batch_size=20, shuffle=False, **options)  # type: ignore[arg-type]


def tensors_of(batch: fft.Batch) -> Iterator[torch.Tensor]:
    yield from (batch["id"], batch["x"], batch["text"].values, batch["text"].offsets, batch.rows, batch.valid)


def test_every_tensor_lies_in_registered_pages_that_are_registered_once(place):
    device = FakeDevice()
    with loader_on(place, device, prefetch_factor=2) as loader:
        for epoch in range(4):
            for batch in loader:
                assert all(device.holds(tensor) for tensor in tensors_of(batch))
                assert batch["id"].tolist() == batch.rows.tolist()
            if epoch == 0:
                after_one = device.registered
    assert device.registered <= after_one + 4, "slots that come back are registered already"


def test_all_pages_are_unregistered_when_loader_and_batches_are_gone(place):
    device = FakeDevice()
    loader = loader_on(place, device)
    kept = list(loader)
    loader.close()
    del loader
    gc.collect()
    assert all(device.holds(tensor) for batch in kept for tensor in tensors_of(batch))
    assert [batch["id"][0].item() for batch in kept] == list(range(0, ROWS, 20))
    del kept
    gc.collect()
    assert device.pages == {}


def test_a_dropped_batch_is_not_filled_again_before_the_copy_of_it_is_done(place):
    device = FakeDevice()
    device.done = 0
    with loader_on(place, device, prefetch_factor=2) as loader:
        views = [np.frombuffer(memoryview(batch["x"].numpy()), np.float32).__array_interface__["data"][0]
                 for batch in loader]
        assert len(set(views)) == len(views), "no slot was used twice while the device reads"
        assert loader._host_pinner is not None
        assert loader._host_pinner.held() >= len(views) - 1
        device.done = float("inf")
        list(loader)
        assert loader._host_pinner.held() <= 1
    del loader
    gc.collect()
    assert device.pages == {}


def test_batches_may_be_dropped_by_any_thread(place):
    device = FakeDevice()
    with loader_on(place, device) as loader:
        batches = list(loader)
        halves = [batches[::2], batches[1::2]]
        batches.clear()
        threads = [threading.Thread(target=half.clear) for half in halves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert device.recorded >= ROWS / 20
        assert len(list(loader)) == ROWS / 20


def test_a_device_that_refuses_is_asked_once_and_batches_are_copied(caplog):
    device = FakeDevice(refuses=True)
    pinner = HostPinner(device)
    with caplog.at_level(logging.WARNING, logger="fastfeed"):
        assert not pinner.pin(4096, 4096)
        assert not pinner.pin(8192, 4096)
    assert (device.asked, pinner.has_refused) == (1, True)
    assert [record.getMessage() for record in caplog.records] == [
        "cudaHostRegister refused 4096 bytes (error 2): batches are copied into pinned memory instead. Is the limit of "
        "locked memory too low (ulimit -l)?"]


def test_what_callables_make_is_not_registered(place):
    device = FakeDevice()
    loader = loader_on(place, device, map_batch=lambda batch: batch)
    assert loader._pinner() is None
    loader.close()
