"""What a pool is told: its limit, its disks, and how long things may take. Values only; pool.py acts on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fastfeed.errors import ConfigError

# Slabs of the embedded default grow by so much: large enough for few extents, small enough for a laptop.
GROWTH_BYTES = 1 << 30
# A name becomes the name of folders and files.
NAME_CHARACTERS_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskOptions:
    """A folder on a local disk. A pool's files are in <path>/<pool's name>."""

    name: str
    path: Path
    # Where the same folder is mounted once more, read-only: descriptors for clients are opened there.
    readonly_path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """One pool: one limit over all its disks."""

    name: str
    limit_bytes: int  # everything that the pool has on its disks; 0: a pool without slots, which needs no disk
    disks: tuple[DiskOptions, ...]
    words_path: Path  # folder in RAM for the slot words; outlives the daemon, not the machine
    # Where words_path is mounted once more, read-only.
    words_readonly_path: Path | None = None
    growth_bytes: int | None = GROWTH_BYTES  # None: slabs are allocated whole when the pool is opened
    write_bytes_per_day_max: int | None = None
    health: HealthOptions = field(default_factory=lambda: HealthOptions())
    # The watermark is moved so often. What was written since is verified after a power loss, and not before.
    sync_interval_s: float = 10.0

    def __post_init__(self) -> None:
        name = self.name
        if (
            not name
            or len(name) > NAME_CHARACTERS_MAX
            or not all(c.isalnum() or c in "._-" for c in name)
            or name[0] == "."
        ):
            raise ConfigError(
                f"pool {name!r}: a name has 1 to {NAME_CHARACTERS_MAX} letters, digits, '-', '_', '.'; not '.' first."
            )
        if self.limit_bytes < 0:
            raise ConfigError(f"pool {name}: a limit of {self.limit_bytes} bytes.")
        if self.limit_bytes > 0 and not self.disks:
            raise ConfigError(f"pool {name}: a limit of {self.limit_bytes} bytes, and no disk to keep them on.")
        if self.growth_bytes is not None and self.growth_bytes <= 0:
            raise ConfigError(f"pool {name}: slabs that grow by {self.growth_bytes} bytes.")
        if len({disk.name for disk in self.disks}) != len(self.disks):
            raise ConfigError(f"pool {name}: two of its disks have one name.")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthOptions:
    """When a disk is believed, and when not (health.py)."""

    # Longer than any healthy disk takes for 1 MiB, shorter than a reader's patience.
    operation_timeout_s: float = 5.0
    # Probes of a disk that is not ok: soon at first, then twice as long each time.
    probe_after_s: float = 0.5
    probe_interval_s_max: float = 30.0
    # So many failed probes in a row take a suspect disk out.
    failed_probes_max: int = 3
    # So do so many operations in a row: a disk that fails whole is told apart from one with bad sectors in the time of
    # a few reads, before who reads there has to go to the origin for everything.
    failed_operations_max: int = 8
    # A fenced slot is tried again after so long.
    fence_s: float = 600.0
