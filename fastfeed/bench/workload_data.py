"""The data of a workload: records of noise in the sizes that the workload has, written once, the same everywhere.

Noise, so that no codec, disk or file system makes it smaller. Records of one shape are tensors, others bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastfeed.bench.workloads import Workload
from fastfeed.dataset.dataset import Dataset
from fastfeed.dataset.dataset import open as open_dataset
from fastfeed.dataset.writer import DatasetWriter
from fastfeed.errors import ConfigError, DatasetNotFoundError
from fastfeed.format.schema import Bytes, Schema, Tensor

SEED = 6
# Records are cut from this much noise, each from a place of its own.
NOISE_BYTES = 64 << 20
# Sizes are drawn from a normal distribution; beyond these multiples of the mean they are cut off, on both sides alike,
# so that the mean stays. U-Net's sigma is half its mean.
RECORD_SHARE_MIN = 0.1
RECORD_SHARE_MAX = 1.9
# Rows of fixed shape go to the writer together, in about so many bytes.
ROWS_BYTES = 16 << 20
RECORD_COLUMN = "record"


def record_count(workload: Workload, data_bytes: int) -> int:
    """How many records make about `data_bytes`; at least one batch."""
    return max(workload.batch_size, round(data_bytes / workload.record_bytes))


def place_of(workload: Workload, folder: Path, data_bytes: int) -> Path:
    return folder / f"mlperf-{workload.name}-{record_count(workload, data_bytes)}"


def columns_read(workload: Workload) -> list[str]:
    """What training asks for."""
    return [field.name for field in workload.fields if field.is_read] or [RECORD_COLUMN]


def prepare(workload: Workload, folder: Path, data_bytes: int) -> Dataset:
    """The dataset below `folder`, written now if it is not there."""
    place = place_of(workload, folder, data_bytes)
    count = record_count(workload, data_bytes)
    try:
        dataset = open_dataset(str(place))
    except DatasetNotFoundError:
        write(workload, place, count)
        dataset = open_dataset(str(place))
    if len(dataset) != count or dataset.metadata.get("workload") != workload.name:
        raise ConfigError(f"{place}: is there, and is not the {count:,} records of {workload.name}. Remove it, or "
                          "name another folder by --data.")
    return dataset


def write(workload: Workload, place: Path, count: int) -> None:
    """Write `count` records as one dataset."""
    rng = np.random.default_rng(SEED)
    noise = np.frombuffer(rng.bytes(NOISE_BYTES), np.uint8)
    about = {"workload": workload.name, "source": workload.source}
    if workload.fields:
        schema = Schema({field.name: Tensor(field.dtype, (field.length,)) for field in workload.fields})
        with DatasetWriter(place, schema, metadata=about) as writer:
            a_batch = max(1, ROWS_BYTES // workload.record_bytes)
            for first in range(0, count, a_batch):
                writer.write_batch(rows_of_noise(workload, noise, rng, min(a_batch, count - first)))
    else:
        with DatasetWriter(place, Schema({RECORD_COLUMN: Bytes()}), metadata=about) as writer:
            for size in record_sizes(workload, rng, count):
                writer.write({RECORD_COLUMN: bytes_of_noise(noise, rng, int(size))})


def record_sizes(workload: Workload, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    """Bytes of each record."""
    mean = workload.record_bytes
    drawn = rng.normal(mean, workload.record_bytes_sigma, count)
    return np.clip(drawn, RECORD_SHARE_MIN * mean, RECORD_SHARE_MAX * mean).round().astype(np.int64)


def bytes_of_noise(noise: npt.NDArray[np.uint8], rng: np.random.Generator, size: int) -> bytes:
    """`size` bytes, from a place in the noise and round its end."""
    start = int(rng.integers(len(noise)))
    return b"".join([noise[start : start + size].tobytes(),
                     *(noise[: size - done].tobytes() for done in range(len(noise) - start, size, len(noise)))])


def rows_of_noise(
    workload: Workload, noise: npt.NDArray[np.uint8], rng: np.random.Generator, count: int
) -> pa.RecordBatch:
    """`count` records of the workload's fields."""
    columns = {}
    for field in workload.fields:
        items = count * field.length
        size = items * np.dtype(field.dtype).itemsize
        values = np.frombuffer(bytes_of_noise(noise, rng, size), np.uint8)
        # Random bits include NaNs that are as good as any: nobody computes with them.
        columns[field.name] = pa.FixedSizeListArray.from_arrays(pa.array(values.view(field.dtype)), field.length)
    return pa.RecordBatch.from_pydict(columns)
