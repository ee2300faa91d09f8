"""Trains a small network through `fastfeed.torch.Loader`, and measures what feeding it cost."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

import fastfeed as ff
import fastfeed.torch as fft

BATCH_SIZE = 64
INPUT_SIZE = 96
# The usual share of a picture that evaluation looks at: 224 of 256.
RESIZE_FOR_TEST = INPUT_SIZE * 256 // 224
LEARNING_RATE_MAX = 0.01
THREADS = 2
# The cores that the loader's threads leave, at least one. OpenMP's threads spin while they wait for each other: with
# two on a machine whose two cores were busy decoding, a step took eight times as long as with one.
TORCH_THREADS = max(1, len(os.sched_getaffinity(0)) - THREADS)
SEED = 0
# Progress on a terminal is one line that changes; in a log, one line every so many steps.
STEPS_A_LOG_LINE = 20


@dataclass
class Feeding:
    """Where the time of the training steps went, seen from the training loop."""

    images: int = 0
    wait_s: list[float] = field(default_factory=list)  # a step: next() called until the batch is there
    compute_s: float = 0.0
    stage_s: dict[str, float] = field(default_factory=dict)  # thread seconds in the loader, by stage

    @property
    def total_s(self) -> float:
        return sum(self.wait_s) + self.compute_s

    @property
    def images_per_s(self) -> float:
        return self.images / self.total_s

    def wait_ms(self, percent: int) -> float:
        return 1000 * statistics.quantiles(self.wait_s, n=100, method="inclusive")[percent - 1]


@dataclass(frozen=True)
class Epoch:
    """What feeding one epoch cost, and where its bytes came from (`loader.stats()["bytes"]`, read-ahead included)."""

    images_per_s: float
    wait_s: float
    first_wait_s: float
    slab_bytes: int
    ring_bytes: int


@dataclass
class Result:
    accuracy: float
    chance: float
    feeding: Feeding
    epochs: list[Epoch]


def network(classes: int) -> nn.Module:
    """Four strided convolutions and a linear layer: 60,000 weights."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


def to_input(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [n, 3, h, w] to float32, about -2 .. 2."""
    return pixels.float().div_(64).sub_(2)


def timed(loader: fft.Loader, feeding: Feeding) -> Iterator[dict[str, torch.Tensor]]:
    """The loader's batches; what each one was waited for goes into `feeding`."""
    batches = iter(loader)
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        received = time.perf_counter()
        feeding.wait_s.append(received - asked)
        feeding.images += len(batch["label"])
        yield batch
        feeding.compute_s += time.perf_counter() - received


def show(epoch: int, step: int, steps: int, loss: float, feeding: Feeding) -> None:
    last = step == steps
    line = (
        f"epoch {epoch + 1}  step {step:3}/{steps}  loss {loss:5.3f}  {feeding.images_per_s:6,.0f} images/s  "
        f"exposed wait {1000 * statistics.fmean(feeding.wait_s):5.1f} ms a step"
    )
    if sys.stdout.isatty():
        print(f"\r{line}", end="\n" if last else "", flush=True)
    elif last or step % STEPS_A_LOG_LINE == 0:
        print(line, flush=True)


def train(dataset: str, classes: int, epochs: int, feeding: Feeding, measured: list[Epoch]) -> nn.Module:
    torch.manual_seed(SEED)
    model = network(classes)
    with fft.Loader(
        ff.open(dataset),
        batch_size=BATCH_SIZE,
        columns=["image", "label"],
        transforms={"image": [ff.image.RandomResizedCrop(INPUT_SIZE), ff.image.RandomHorizontalFlip()]},
        seed=SEED,
        threads=THREADS,
    ) as loader:
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, LEARNING_RATE_MAX, total_steps=epochs * len(loader)
        )
        for epoch in range(epochs):
            loader.set_epoch(epoch)
            before = Feeding(feeding.images, feeding.wait_s[:], feeding.compute_s), loader.stats()["bytes"]
            for step, batch in enumerate(timed(loader, feeding), start=1):
                loss = nn.functional.cross_entropy(model(to_input(batch["image"])), batch["label"])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                show(epoch, step, len(loader), loss.item(), feeding)
            measured.append(epoch_of(feeding, loader.stats()["bytes"], *before))
        stages = loader.stats()["stages"]
        feeding.stage_s = {name.removesuffix("_s"): seconds for name, seconds in stages.items()}
    return model


def epoch_of(feeding: Feeding, read: dict[str, int], before: Feeding, read_before: dict[str, int]) -> Epoch:
    """The difference between two moments."""
    waits = feeding.wait_s[len(before.wait_s) :]
    seconds = feeding.total_s - before.total_s
    tiers = {tier: read.get(tier, 0) - read_before.get(tier, 0) for tier in ("slab", "ring")}
    return Epoch((feeding.images - before.images) / seconds, sum(waits), waits[0], tiers["slab"], tiers["ring"])


def accuracy(model: nn.Module, dataset: str) -> float:
    """Share of the test pictures that the network names right. Every one is seen once."""
    model.eval()
    right = seen = 0
    with (
        torch.inference_mode(),
        fft.Loader(
            ff.open(dataset),
            batch_size=BATCH_SIZE,
            shuffle=False,
            last="short",
            columns=["image", "label"],
            transforms={"image": [ff.image.Resize(RESIZE_FOR_TEST), ff.image.CenterCrop(INPUT_SIZE)]},
            threads=THREADS,
        ) as loader,
    ):
        for batch in loader:
            right += int((model(to_input(batch["image"])).argmax(1) == batch["label"]).sum())
            seen += len(batch["label"])
    return right / seen


def run(train_set: str, test_set: str, epochs: int) -> Result:
    """Train, test and measure. The sets are URLs."""
    torch.set_num_threads(TORCH_THREADS)
    classes = len(ff.open(train_set).metadata["classes"])
    feeding, measured = Feeding(), list[Epoch]()
    model = train(train_set, classes, epochs, feeding, measured)
    return Result(accuracy(model, test_set), 1 / classes, feeding, measured)
