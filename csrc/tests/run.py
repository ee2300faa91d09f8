"""Builds and runs the test programs and the fuzz entry points of the core.

    python csrc/tests/run.py [--sanitize | --threads] [--only NAME] [--mutate N] [--seed S] [--build FOLDER]

Every csrc/tests/test_*.cpp is a program that must exit with 0. Every csrc/fuzz/fuzz_<target>.cpp is linked with
csrc/fuzz/driver.cpp and run over csrc/fuzz/corpus/<target>/ and over mutations of it. With --sanitize all of it, the
core included, is built with the address and the undefined-behaviour sanitizer, and the first finding ends a program.
With --threads the programs of the cache, of reading and of the pipeline, and what they need, are built with the thread
sanitizer, and run.
Objects are kept in the build folder and made again when their source, any header or this file is newer. One line a
program; exit code 1 if any failed, 2 if it did not build.
"""

from __future__ import annotations

import argparse
import ast
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

CSRC = Path(__file__).resolve().parents[1]
ROOT = CSRC.parent
SETUP = ROOT / "setup.py"
LIBRARIES = ["-ljpeg", "-lpng", "-lwebp", "-lzstd", "-lpthread"]
FLAGS = ["-std=c++20", "-g1", "-fno-math-errno", "-ffp-contract=off", "-Wall", "-Wextra", f"-I{CSRC}"]
PLAIN = ["-O2"]
# -O1 keeps the sanitizers' reports readable and the programs about four times faster than -O0.
SANITIZE = ["-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
            "-D_GLIBCXX_ASSERTIONS"]
# The sanitizer does not know fences: it sees the words' loads and stores as they are, and what the fences order are
# bytes that the kernel copies. `test_cache_model` tries the fences.
THREADS = ["-O1", "-fno-omit-frame-pointer", "-fsanitize=thread", "-Wno-tsan", "-D_GLIBCXX_ASSERTIONS"]
THREADS_FOLDERS = {"cache", "codec", "feed", "format", "io"}
THREADS_PROGRAMS = ("test_cache_", "test_io", "test_feed_pipeline")
# One allocation of a fuzz target: about ten times what an input of a corpus may ask for, so that a size that was taken
# from an input and not checked is a finding. A small quarantine: fresh pages cost more than the targets themselves.
ALLOCATION_MB_MAX = 64
FUZZ_ENVIRONMENT = {"ASAN_OPTIONS": f"quarantine_size_mb=16:max_allocation_size_mb={ALLOCATION_MB_MAX}"}
# Enough to reach every branch of the small targets in about a second each.
MUTATION_COUNT = 3000
# A program that takes longer hangs: the slowest needs about 20 s under the sanitizers on a busy machine.
PROGRAM_TIMEOUT_S = 240


@dataclass(frozen=True)
class Program:
    name: str
    sources: tuple[Path, ...]
    arguments: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the process that runs it."""
        return {**os.environ, **(FUZZ_ENVIRONMENT if self.name.startswith("fuzz_") else {})}


def isa_flags() -> dict[str, tuple[str, list[str]]]:
    """ISA_FLAGS of setup.py, so that there is one table only."""
    for node in ast.parse(SETUP.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ISA_FLAGS":
            flags: dict[str, tuple[str, list[str]]] = ast.literal_eval(node.value)
            return flags
    sys.exit(f"{SETUP} has no ISA_FLAGS")


def core_sources(flags: dict[str, tuple[str, list[str]]]) -> list[tuple[Path, list[str]]]:
    """Sources of the core for this machine, each with the flags of its instruction set."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    found = []
    for path in sorted(CSRC.rglob("*.cpp")):
        if path.relative_to(CSRC).parts[0] in ("tests", "fuzz"):
            continue
        suffix = next((s for s in flags if path.stem.endswith(s)), None)
        if suffix is None or flags[suffix][0] == machine:
            found.append((path, flags[suffix][1] if suffix else []))
    return found


def programs(mutation_count: int, seed: int) -> list[Program]:
    found = [Program(path.stem, (path,), ()) for path in sorted((CSRC / "tests").glob("test_*.cpp"))]
    for path in sorted((CSRC / "fuzz").glob("fuzz_*.cpp")):
        corpus = CSRC / "fuzz" / "corpus" / path.stem.removeprefix("fuzz_")
        arguments = (str(corpus), "--mutate", str(mutation_count), "--seed", str(seed))
        found.append(Program(path.stem, (path, CSRC / "fuzz" / "driver.cpp"), arguments))
    return found


class Builder:
    """Compiles into one folder, at most one job a processor. Not for two processes at once."""

    def __init__(self, folder: Path, flags: list[str]) -> None:
        self.folder = folder
        self.compiler = [*os.environ.get("CXX", "g++").split(), *FLAGS, *flags]
        shared = [*CSRC.rglob("*.hpp"), Path(__file__), SETUP]
        self.shared_time = max(path.stat().st_mtime for path in shared)
        folder.mkdir(parents=True, exist_ok=True)

    def object_of(self, source: Path) -> Path:
        return self.folder / (source.relative_to(CSRC).as_posix().replace("/", "-") + ".o")

    def compile_all(self, sources: list[tuple[Path, list[str]]]) -> bool:
        jobs = []
        for source, flags in sources:
            target = self.object_of(source)
            newest = max(self.shared_time, source.stat().st_mtime)
            if not target.exists() or target.stat().st_mtime < newest:
                jobs.append([*self.compiler, *flags, "-c", str(source), "-o", str(target)])
        return self.run_all(jobs)

    def link_all(self, wanted: list[Program], core: list[Path]) -> bool:
        archive = self.folder / "libcore.a"
        members = [str(self.object_of(path)) for path in core]
        archive.unlink(missing_ok=True)
        if not self.run_all([["ar", "rcs", str(archive), *members]]):
            return False
        return self.run_all([
            [*self.compiler, *(str(self.object_of(path)) for path in program.sources), str(archive), *LIBRARIES,
             "-o", str(self.folder / program.name)]
            for program in wanted
        ])

    def run_all(self, jobs: list[list[str]]) -> bool:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            return all(list(pool.map(lambda job: subprocess.run(job, check=False).returncode == 0, jobs)))


def run_program(folder: Path, program: Program) -> bool:
    """Run it, print its line (and what it said, if it failed)."""
    started_s = time.monotonic()
    try:
        done = subprocess.run([str(folder / program.name), *program.arguments], cwd=folder, check=False,
                              env=program.environment, capture_output=True, text=True, errors="replace",
                              timeout=PROGRAM_TIMEOUT_S)
        failure = "" if done.returncode == 0 else f"exit code {done.returncode}"
        output = done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        failure, output = f"no end within {PROGRAM_TIMEOUT_S} s", ""
    line = f"{'FAILED' if failure else 'ok':6} {program.name} ({time.monotonic() - started_s:.1f} s)"
    print(f"{line}: {failure}\n{output}" if failure else line, flush=True)
    return not failure


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build and run the native test programs and fuzz targets.")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--sanitize", action="store_true", help="with the address and undefined-behaviour sanitizers")
    kinds.add_argument("--threads", action="store_true", help="cache, reading, pipeline with the thread sanitizer")
    parser.add_argument("--only", metavar="NAME", help="only programs whose name contains NAME")
    parser.add_argument("--mutate", type=int, default=MUTATION_COUNT, metavar="N", help="mutations a fuzz target")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which mutations")
    parser.add_argument("--build", type=Path, metavar="FOLDER", help="default: build/native-tests[-sanitize|-threads]")
    options = parser.parse_args(arguments)
    kind = "-sanitize" if options.sanitize else "-threads" if options.threads else ""
    folder = options.build or ROOT / "build" / f"native-tests{kind}"
    wanted = [p for p in programs(options.mutate, options.seed) if (options.only or "") in p.name]
    if not wanted:
        print(f"no program's name contains {options.only!r}", file=sys.stderr)
        return 2
    core = core_sources(isa_flags())
    if options.threads:
        wanted = [program for program in wanted if program.name.startswith(THREADS_PROGRAMS)]
        core = [(path, flags) for path, flags in core if path.relative_to(CSRC).parts[0] in THREADS_FOLDERS]
    builder = Builder(folder.resolve(), SANITIZE if options.sanitize else THREADS if options.threads else PLAIN)
    own = sorted({path for program in wanted for path in program.sources})
    if not builder.compile_all([*core, *((path, []) for path in own)]):
        return 2
    if not builder.link_all(wanted, [path for path, _ in core]):
        return 2
    results = [run_program(builder.folder, program) for program in wanted]
    print(f"{sum(results)} of {len(results)} programs passed", flush=True)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
