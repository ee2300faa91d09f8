"""`fastfeed doctor`: what this machine offers and lacks.

It looks and reports; it changes nothing and needs no dataset. What is lacking comes with a remedy. Always
exits 0: a machine without io_uring or torch is not an error.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastfeed import __version__
from fastfeed.cli.common import add_command, print_json, table_text
from fastfeed.cli.doctor_cache import cache_lacks, cache_rows, examine_cache
from fastfeed.format.capabilities import codec_outcomes, crc32c_implementation, io_uring_state
from fastfeed.format.machine import (
    NETWORK_FILE_SYSTEMS,
    PROC,
    cpu_quota,
    existing_parent,
    file_system_of,
    memory_limit_bytes,
    read_lines,
    usable_cores,
)
from fastfeed.format.sizes import format_size

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers

SIMD_FLAGS = ("sse4_2", "pclmulqdq", "avx2", "bmi2", "avx512f", "avx512bw", "asimd", "crc32", "sve")
LIBRARIES = ("numpy", "pyarrow", "zstandard", "xxhash", "rich", "obstore", "aiohttp", "prometheus_client")
NATIVE_LIBRARIES = ("libjpeg", "libpng", "libwebp", "libzstd")
# A reader holds up to 512 shard files open, a job a few sockets and libraries beside them.
OPEN_FILES_WANTED = 4096


def add_parser(subparsers: Subparsers) -> None:
    add_command(
        subparsers,
        "doctor",
        description=(
            "Say what this machine offers and lacks: cores, SIMD, io_uring, limits, codecs, disks, the cache, torch.\n"
            "What is lacking comes with a remedy. Changes nothing."
        ),
        example="fastfeed doctor\nfastfeed doctor --json",
    )


def run(args: argparse.Namespace) -> int:
    report = examine()
    if args.json:
        print_json(report)
    elif not args.quiet:
        print(report_text(report))
    return 0


def examine() -> dict[str, Any]:
    """Everything that doctor knows, as values that JSON can hold."""
    report: dict[str, Any] = {
        "fastfeed": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": cores(),
        "memory": memory(),
        "simd": simd_flags(),
        "crc32c": crc32c_implementation(),
        "io_uring": io_uring_state(),
        "limits": limits(),
        "codecs": codec_outcomes(),
        "libraries": libraries(),
        "torch": version_of("torch"),
        "cache": examine_cache(),
    }
    cache_disks = [disk("cache", Path(each["folder"])) for each in report["cache"]["configuration"]["disks"]]
    report["disks"] = [*cache_disks, disk("working folder", Path.cwd())]
    report["lacks"] = lacks(report)
    return report


def cores() -> dict[str, Any]:
    """Cores of the machine, and how many of them this process may use."""
    return {
        "present": os.cpu_count(),
        "affinity": len(os.sched_getaffinity(0)),
        "cgroup_quota": cpu_quota(),
        "usable": usable_cores(),
    }


def memory() -> dict[str, Any]:
    """Memory of the machine, and the limit of our cgroup."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"total_bytes": total, "cgroup_limit_bytes": memory_limit_bytes()}


def simd_flags(proc: Path = PROC) -> list[str]:
    """The flags of the first CPU that fastfeed can make use of."""
    for line in read_lines(proc / "cpuinfo"):
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            present = set(value.split())
            return [flag for flag in SIMD_FLAGS if flag in present]
    return []


def limits() -> dict[str, int | None]:
    """Soft limits of this process; None is unlimited."""

    def soft(which: int) -> int | None:
        value = resource.getrlimit(which)[0]
        return None if value == resource.RLIM_INFINITY else value

    return {"open_files": soft(resource.RLIMIT_NOFILE), "locked_memory_bytes": soft(resource.RLIMIT_MEMLOCK)}


def libraries(proc: Path = PROC) -> dict[str, str]:
    """Versions of the Python packages, and file names of the native libraries in this process."""
    versions = {name: version_of(name) or "missing" for name in LIBRARIES}
    loaded = {Path(line.split()[-1]).name for line in read_lines(proc / "self" / "maps") if ".so" in line}
    for library in NATIVE_LIBRARIES:
        names = sorted(name for name in loaded if name.startswith((f"{library}.", f"{library}-", f"{library}16.")))
        if names:
            versions[library] = ", ".join(names)
    return versions


def version_of(package: str) -> str | None:
    """The version of an installed package, None where it is absent."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def disk(role: str, folder: Path) -> dict[str, Any]:
    """Free space and file system of `folder`, or of its nearest parent that exists."""
    existing = existing_parent(folder)
    usage = shutil.disk_usage(existing)
    return {
        "role": role,
        "folder": str(folder),
        "file_system": file_system_of(existing),
        "free_bytes": usage.free,
        "total_bytes": usage.total,
        "writable": os.access(existing, os.W_OK),
    }


def lacks(report: dict[str, Any]) -> list[dict[str, str]]:
    """What is missing or small in `report`, each with what to do. Pure."""
    found = []

    def lack(what: str, remedy: str) -> None:
        found.append({"what": what, "remedy": remedy})

    if report["simd"] and not {"sse4_2", "crc32"} & set(report["simd"]):
        lack(
            "the CPU has no crc32c instruction: checksums run in portable code, several times slower",
            "use a machine with SSE4.2 or the ARMv8 crc extension",
        )
    quota = report["cores"]["cgroup_quota"]
    if quota is not None and quota < report["cores"]["affinity"]:
        lack(
            f"the cgroup allows {quota:g} of {report['cores']['affinity']} cores",
            "raise the container's CPU limit, or expect the speed of fewer cores",
        )
    if report["io_uring"] != "available":
        lack(
            f"io_uring: {report['io_uring']}",
            "nothing is broken: files are read with pread. To allow it, set kernel.io_uring_disabled=0 "
            "and a seccomp profile that permits io_uring_setup and io_uring_enter",
        )
    open_files = report["limits"]["open_files"]
    if open_files is not None and open_files < OPEN_FILES_WANTED:
        lack(
            f"only {open_files} files may be open at once",
            f"ulimit -n {OPEN_FILES_WANTED} (or LimitNOFILE= in the service's unit)",
        )
    for name, outcome in report["codecs"].items():
        if outcome != "works":
            lack(f"{name} {outcome}", "install fastfeed again; the native build on this machine is broken")
    if report["torch"] is None:
        lack(
            "torch is not installed: fastfeed.torch cannot be used",
            "pip install torch (fastfeed.Loader works without)",
        )
    for entry in report["disks"]:
        if entry["file_system"] in NETWORK_FILE_SYSTEMS and entry["role"] == "cache":
            lack(
                f"the cache folder {entry['folder']} is on {entry['file_system']}, a network file system",
                "set FASTFEED_CACHE_DIR to a folder on a local disk",
            )
        if not entry["writable"]:
            lack(f"the {entry['role']} {entry['folder']} is not writable", "change its owner or mode")
    for what, remedy in cache_lacks(report["cache"], report["fastfeed"]):
        lack(what, remedy)
    return found


def report_text(report: dict[str, Any]) -> str:
    core, limit = report["cores"], report["limits"]
    quota = "none" if core["cgroup_quota"] is None else f"{core['cgroup_quota']:g}"
    memory_limit = report["memory"]["cgroup_limit_bytes"]
    rows = [
        ("fastfeed", report["fastfeed"]),
        ("python", f"{report['python']} ({sys.executable})"),
        ("platform", report["platform"]),
        (
            "cores",
            f"{core['usable']} usable of {core['present']} (affinity {core['affinity']}, cgroup quota {quota})",
        ),
        (
            "memory",
            format_size(report["memory"]["total_bytes"])
            + ("" if memory_limit is None else f" (cgroup limit {format_size(memory_limit)})"),
        ),
        ("SIMD", " ".join(report["simd"]) or "none known"),
        ("crc32c", report["crc32c"]),
        ("io_uring", report["io_uring"]),
        ("open files", "unlimited" if limit["open_files"] is None else f"{limit['open_files']:,}"),
        (
            "locked memory",
            "unlimited" if limit["locked_memory_bytes"] is None else format_size(limit["locked_memory_bytes"]),
        ),
        ("codecs", ", ".join(f"{name} {outcome}" for name, outcome in report["codecs"].items())),
        ("libraries", ", ".join(f"{name} {version}" for name, version in report["libraries"].items())),
        ("torch", report["torch"] or "not installed"),
    ]
    rows += [
        (
            entry["role"],
            f"{entry['folder']}: {entry['file_system']}, {format_size(entry['free_bytes'])} free "
            f"of {format_size(entry['total_bytes'])}",
        )
        for entry in report["disks"]
    ]
    rows += cache_rows(report["cache"])
    text = table_text(rows)
    if not report["lacks"]:
        return f"{text}\n\nlacks nothing"
    found = [f"- {lack['what']}\n  {lack['remedy']}" for lack in report["lacks"]]
    return f"{text}\n\nlacks\n" + "\n".join(found)
