"""The training workloads of MLPerf Storage, as numbers: records, batches, and how long an accelerator computes.

From the workload files of github.com/mlcommons/storage, configs/dlio/workload/<name>_<accelerator>.yaml, and its
Rules.md, 3.3.2 (accelerator utilisation); read at the commits that `source` names. DLRM and Flux have files for B200
only that agree with the data that is generated; RetinaNet's are of version 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fastfeed.errors import ConfigError

# Rules.md: the data is at least so many times the memory of all clients, and an epoch has at least so many steps.
RULES_MEMORY_MULTIPLE = 5
RULES_STEPS = 500
# Accelerator to emulate where none is named: the first of these that a workload has.
ACCELERATORS_PREFERRED = ("h100", "b200", "a100")


@dataclass(frozen=True, slots=True)
class Field:
    """A column of fixed shape: `length` items of `dtype`. is_read: whether training asks for it."""

    name: str
    dtype: str
    length: int
    is_read: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One workload. `step_s`: by accelerator, how long it computes on one batch."""

    name: str
    title: str
    stored_as: str  # by the rules
    record_bytes: int
    record_bytes_sigma: int = 0
    batch_size: int
    step_s: Mapping[str, float]
    au_min: float
    source: str
    fields: tuple[Field, ...] = ()  # none: a record is bytes without a structure

    @property
    def accelerators(self) -> tuple[str, ...]:
        return tuple(self.step_s)

    @property
    def batch_bytes(self) -> int:
        """About how many bytes of memory a batch takes: what is read of its records."""
        read = sum(np.dtype(field.dtype).itemsize * field.length for field in self.fields if field.is_read)
        return self.batch_size * (read or self.record_bytes)

    def accelerator(self, name: str | None) -> str:
        """The accelerator to emulate. ConfigError where the workload has no time for `name`."""
        if name is None:
            return next(each for each in ACCELERATORS_PREFERRED if each in self.step_s)
        if name not in self.step_s:
            raise ConfigError(f"--accelerator {name}: {self.name} has times for {', '.join(self.step_s)}.")
        return name


_FLUX = (
    Field("t5_encodings", "float32", 524_328),
    Field("clip_encodings", "float32", 409),
    Field("mean", "float32", 8_232),
    Field("logvar", "float32", 8_232),
    Field("timestamp", "float32", 7),
)
# 200 columns of 1 to 8 bytes, 40 of them read, about 160 bytes: kept side by side as two.
_DLRM = (Field("read", "float32", 40), Field("not_read", "uint8", 601, is_read=False))

WORKLOADS: dict[str, Workload] = {
    each.name: each
    for each in (
        Workload(name="unet3d", title="3D U-Net", stored_as="npz, a file a sample", record_bytes=146_600_628,
                 record_bytes_sigma=68_341_808, batch_size=7, step_s={"a100": 0.636, "h100": 0.323, "b200": 0.162},
                 au_min=0.90, source="unet3d_h100.yaml at 7e73663b, _a100 at be18c3e5, _b200 at 0d75b417"),
        Workload(name="resnet50", title="ResNet-50", stored_as="TFRecord, 1,251 samples a file", record_bytes=114_660,
                 batch_size=400, step_s={"a100": 0.435, "h100": 0.224}, au_min=0.90,
                 source="resnet50_h100.yaml at ac0424fa, _a100 at be18c3e5"),
        Workload(name="cosmoflow", title="CosmoFlow", stored_as="TFRecord, a file a sample", record_bytes=2_828_486,
                 record_bytes_sigma=71_311, batch_size=1, step_s={"a100": 0.00551, "h100": 0.0035}, au_min=0.70,
                 source="cosmoflow_h100.yaml at c25079c2, _a100 at e3ffed05"),
        Workload(name="retinanet", title="RetinaNet", stored_as="JPEG, a file a sample", record_bytes=322_957,
                 batch_size=24, step_s={"b200": 0.04755}, au_min=0.85, source="retinanet_b200.yaml at 11460d00"),
        Workload(name="dlrm", title="DLRM", stored_as="Parquet, row groups of 6,144", record_bytes=761,
                 batch_size=16_384, step_s={"b200": 0.000375}, au_min=0.70, source="dlrm_b200.yaml at 0b42eb50",
                 fields=_DLRM),
        Workload(name="flux", title="Flux", stored_as="Parquet, 288 samples a file", record_bytes=2_164_832,
                 batch_size=48, step_s={"b200": 1.35}, au_min=0.90, source="flux_b200.yaml at c25079c2",
                 fields=_FLUX),
    )
}
