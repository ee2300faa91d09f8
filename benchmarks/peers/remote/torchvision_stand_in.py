"""MosaicML Streaming imports torchvision at its top level, although the reader of MDS does not use it."""

from __future__ import annotations

import importlib.machinery
import sys
import types
from typing import Any


def stand_in_for_torchvision() -> None:
    """Before Streaming is imported; a torchvision that is installed need not fit the torch that is."""
    names = ["torchvision", *(f"torchvision.{part}" for part in ("datasets", "transforms", "io"))]
    for name in [*names, "torchvision.transforms.functional"]:
        module = sys.modules.setdefault(name, types.ModuleType(name))
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    datasets: Any = sys.modules["torchvision.datasets"]
    datasets.VisionDataset = datasets.CIFAR10 = type("VisionDataset", (), {})
    functional: Any = sys.modules["torchvision.transforms.functional"]
    functional.to_tensor = functional.resize = None
    top: Any = sys.modules["torchvision"]
    top.datasets = datasets
