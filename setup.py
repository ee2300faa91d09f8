"""Builds the native core and the Cython modules over it.

Every .cpp of csrc/ (its tests and fuzz entry points excepted) is compiled once into a static library; each
fastfeed/_native/*.pyx is compiled to C++ and linked against it with hidden symbols, so that no two extensions
(ours or another library's) can meet each other's symbols.

Files for one instruction set carry it in their name (`crc32c_sse42.cpp`, `resize_avx2.cpp`) and are compiled
with its flags on that architecture only; which one runs is decided at run time, so a wheel runs anywhere.

Environment: FASTFEED_DEBUG=1 builds with -O1, -g and assertions.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
NATIVE = ROOT / "fastfeed" / "_native"
DEBUG = os.environ.get("FASTFEED_DEBUG") == "1"
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())

LIBRARIES = ["jpeg", "png", "webp", "zstd", "pthread"]
HEADERS = {
    "jpeglib.h": "libjpeg62-turbo-dev",
    "png.h": "libpng-dev",
    "webp/decode.h": "libwebp-dev",
    "zstd.h": "libzstd-dev",
}
CXX_FLAGS = [
    "-std=c++20", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden", "-ffunction-sections",
    "-fno-math-errno", "-ffp-contract=off", "-Wall", "-Wextra",
    # Python's own build flags on some distributions lack NDEBUG or carry -O2; ours come last and win.
    *(["-O1", "-g", "-UNDEBUG", "-D_GLIBCXX_ASSERTIONS"] if DEBUG else ["-O3", "-g1", "-DNDEBUG"]),
]
# File-name suffix -> (architecture, flags).
ISA_FLAGS = {
    "_sse42": ("x86_64", ["-msse4.2", "-mpclmul"]),
    "_avx2": ("x86_64", ["-mavx2", "-mfma", "-mbmi2"]),
    "_avx512": ("x86_64", ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq",
                           "-mavx2", "-mfma", "-mbmi2"]),
    "_armv8": ("aarch64", ["-march=armv8-a+crc"]),
}


def core_sources() -> list[tuple[Path, list[str]]]:
    """Sources of the core for this architecture, each with its extra flags, in a stable order."""
    sources = []
    for path in sorted(CSRC.rglob("*.cpp")):
        if path.relative_to(CSRC).parts[0] in ("tests", "fuzz"):
            continue
        suffix = next((s for s in ISA_FLAGS if path.stem.endswith(s)), None)
        if suffix is None:
            sources.append((path, []))
        elif ISA_FLAGS[suffix][0] == MACHINE:
            sources.append((path, ISA_FLAGS[suffix][1]))
    return sources


def newest_header() -> float:
    return max((path.stat().st_mtime for path in CSRC.rglob("*.hpp")), default=0.0)


class BuildNative(build_ext):
    """build_ext that first makes the static core."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # The modules do not depend on each other, and each takes seconds to compile.
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self) -> None:
        cxx = os.environ.get("CXX", "g++").split()
        self.check_headers(cxx)
        archive = self.build_core(cxx)
        for extension in self.extensions:
            extension.extra_objects = [str(archive)]
            extension.depends = [*extension.depends, str(archive)]
        super().build_extensions()

    def build_extension(self, extension: Extension) -> None:
        """Link a module, and compile it only where its source is newer than its object.

        setuptools keeps objects in a folder for each kind of build and compiles every time; the modules take longer
        than the whole core, and a wheel needs the same objects that an install in place has made.
        """
        (source,) = extension.sources
        directory = ROOT / "build" / f"modules-{sys.implementation.cache_tag}-{MACHINE}{'-debug' if DEBUG else ''}"
        target = directory / Path(source).with_suffix(".o")
        inputs = [Path(source), Path(__file__), *map(Path, extension.depends)]
        newest = max(path.stat().st_mtime for path in inputs if path.suffix != ".a")
        if not target.exists() or target.stat().st_mtime < newest:
            made = self.compiler.compile(
                [source], output_dir=str(directory), include_dirs=extension.include_dirs,
                extra_postargs=extension.extra_compile_args,
            )  # fmt: skip
            assert [Path(each) for each in made] == [target]
        extension.sources = []
        extension.extra_objects = [str(target), *extension.extra_objects]
        extension.depends = [*extension.depends, str(target)]
        super().build_extension(extension)

    def check_headers(self, cxx: list[str]) -> None:
        missing = []
        for header, package in HEADERS.items():
            program = f"#include <cstdio>\n#include <{header}>\n"
            done = subprocess.run([*cxx, "-x", "c++", "-fsyntax-only", "-"], input=program, text=True,
                                  capture_output=True, check=False)
            if done.returncode != 0:
                missing.append(f"{header} (Debian: {package})")
        if missing:
            sys.exit("fastfeed needs these headers to build: " + ", ".join(missing) + ".\n"
                     f"On Debian or Ubuntu: apt-get install {' '.join(sorted(HEADERS.values()))}")

    def build_core(self, cxx: list[str]) -> Path:
        # The debug and the release core live apart, so that switching never links a mixture. Not in
        # build_temp, which is a new folder for every editable install: only what changed is compiled again.
        directory = ROOT / "build" / f"core-{MACHINE}{'-debug' if DEBUG else ''}"
        directory.mkdir(parents=True, exist_ok=True)
        headers_time = max(newest_header(), Path(__file__).stat().st_mtime)
        objects, jobs = [], []
        for path, flags in core_sources():
            target = directory / (path.relative_to(CSRC).as_posix().replace("/", "-") + ".o")
            objects.append(target)
            if not target.exists() or target.stat().st_mtime < max(headers_time, path.stat().st_mtime):
                jobs.append([*cxx, *CXX_FLAGS, *flags, f"-I{CSRC}", "-c", str(path), "-o", str(target)])
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(lambda job: subprocess.run(job, check=True), jobs))
        archive = directory / "libfastfeed_core.a"
        newest = max((path.stat().st_mtime for path in objects), default=0.0)
        stale = set(directory.glob("*.o")) - set(objects)
        for path in stale:
            path.unlink()
        if jobs or stale or not archive.exists() or archive.stat().st_mtime < newest:
            archive.unlink(missing_ok=True)
            subprocess.run(["ar", "rcs", str(archive), *map(str, objects)], check=True)
        return archive


def extensions() -> list[Extension]:
    return [
        Extension(
            f"fastfeed._native.{path.stem}",
            [str(path.relative_to(ROOT))],
            language="c++",
            include_dirs=[str(CSRC)],
            libraries=LIBRARIES,
            extra_compile_args=[*CXX_FLAGS, "-Wno-unused-parameter", "-Wno-unused-function",
                                "-Wno-missing-field-initializers"],
            extra_link_args=["-Wl,--gc-sections", "-Wl,--exclude-libs,ALL"],
            depends=[str(header) for header in CSRC.rglob("*.hpp")],
        )
        for path in sorted(NATIVE.glob("*.pyx"))
    ]


def cythonized() -> list[Extension]:
    from Cython.Build import cythonize

    return cythonize(  # type: ignore[no-any-return]
        extensions(),
        include_path=[str(ROOT)],
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "freethreading_compatible": True,
            "embedsignature": True,
            "embedsignature.format": "python",
        },
    )


setup(ext_modules=cythonized(), cmdclass={"build_ext": BuildNative})
