"""Holds the rooms of fastfeed (docs/architecture.md) against the source: who may import whom.

Imports are read with `ast`, those inside functions and under TYPE_CHECKING included; .pyx and .pxd files by
their import and cimport lines. The core's globals are read from the objects that the build made.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.repository import ROOT, tracked_files

PACKAGE = ROOT / "fastfeed"

# Room -> the rooms that it may import, itself apart. The same table stands in docs/architecture.md.
MAY_IMPORT = {
    "errors": set(),
    "_native": {"errors"},
    "format": {"errors", "_native"},
    "storage": {"errors"},
    "order": {"errors", "_native"},
    "dataset": {"errors", "_native", "format", "storage", "wire"},
    "cache": {"errors", "_native", "format", "order"},
    "wire": {"errors", "_native"},
    "daemon": {"errors", "_native", "format", "storage", "dataset", "order", "cache", "wire"},
    "loader": {"errors", "_native", "format", "dataset", "order", "wire"},
    "torch": {"errors", "dataset", "loader"},
    "convert": {"errors", "format", "storage", "dataset"},
    "bench": {"errors", "format", "dataset", "loader"},
    "cli": {
        "errors",
        "format",
        "storage",
        "dataset",
        "order",
        "cache",
        "wire",
        "daemon",
        "loader",
        "torch",
        "convert",
        "bench",
    },
    "__main__": {"cli"},
    "fsspec": {"errors", "wire"},
}
# The door names every room that a public name comes from, and imports it when the name is asked for.
DOOR = "__init__"

THIRD_PARTY_EVERYWHERE = {"numpy", "pyarrow", "xxhash", "zstandard"}
THIRD_PARTY = {"torch": {"torch"}, "cli": {"rich"}, "daemon": {"aiohttp", "prometheus_client"}}
# File -> what only it may import: it is optional.
ONLY_IN = {
    PACKAGE / "storage" / "remote.py": {"obstore"},
    PACKAGE / "convert" / "shrink.py": {"PIL"},
    PACKAGE / "bench" / "plot.py": {"matplotlib"},
    PACKAGE / "fsspec.py": {"fsspec"},
}

# A feeling, not a law (docs/decisions): a longer file has two jobs.
FILE_LINES_MAX = 800
FILE_BYTES_MAX = 1 << 20
# A line of `objdump -t`: flags, section, size, name. Only sections that a program can write to.
SYMBOL = re.compile(r"^\S+ .{7} (\.t?(?:data|bss)[\w.]*)\t\S+\s+(?:\.hidden )?(\S+)$", re.MULTILINE)
TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "benchmarks",
    "csrc",
    "deploy",
    "docs",
    "examples",
    "fastfeed",
    "pyproject.toml",
    "setup.py",
    "tests",
}


class Import(NamedTuple):
    file: Path
    line: int
    module: str  # absolute, dotted
    names: tuple[str, ...]  # after `from module import`; empty for `import module`

    def __str__(self) -> str:
        what = f"from {self.module} import {', '.join(self.names)}" if self.names else f"import {self.module}"
        return f"{self.file.relative_to(ROOT)}:{self.line}: {what}"


def python_imports(file: Path) -> Iterator[Import]:
    parts = file.relative_to(ROOT).with_suffix("").parts
    package = parts[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, ())
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield Import(file, node.lineno, module, tuple(alias.name for alias in node.names))


def cython_imports(file: Path) -> Iterator[Import]:
    package = file.relative_to(ROOT).parts[:-1]
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if found := re.match(r"\s*from\s+(\.*)([\w.]*)\s+c?import\s+(.+)", line):
            dots, module, names = found.groups()
            base = package[: len(package) - len(dots) + 1] if dots else ()
            listed = tuple(name.split(" as ")[0].strip(" ()\\") for name in names.split("#")[0].split(","))
            yield Import(
                file, number, ".".join([*base, *([module] if module else [])]), tuple(filter(None, listed))
            )
        elif found := re.match(r"\s*c?import\s+([\w.]+)", line):
            yield Import(file, number, found.group(1), ())


def all_imports() -> list[Import]:
    imports: list[Import] = []
    for file in sorted(PACKAGE.rglob("*")):
        if file.suffix in (".py", ".pyi"):
            imports += python_imports(file)
        elif file.suffix in (".pyx", ".pxd"):
            imports += cython_imports(file)
    return imports


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def rooms_imported(found: Import) -> set[str]:
    """Rooms of ours that an import reaches; "fastfeed" for the door itself."""
    parts = found.module.split(".")
    if parts[0] != "fastfeed":
        return set()
    if len(parts) > 1:
        return {parts[1]}
    if not found.names:
        return {"fastfeed"}
    return {
        name if name in MAY_IMPORT or name == "fsspec" else "fastfeed"
        for name in found.names
        if name != "__version__"
    }


def test_a_room_imports_only_the_rooms_below_it() -> None:
    imports = [found for found in all_imports() if room_of(found.file) != DOOR]
    strays = {found.file for found in imports if room_of(found.file) not in MAY_IMPORT}
    assert not strays, f"in no room of the table: {strays}"
    breaches = [
        f"{found}   ({room} may import: {', '.join(sorted(MAY_IMPORT[room])) or 'nothing of ours'})"
        for found in imports
        for room in [room_of(found.file)]
        if rooms_imported(found) - {room} - MAY_IMPORT[room]
    ]
    assert not breaches, "\n".join(["imports go down only:", *breaches])


def test_a_third_party_package_is_imported_only_where_the_table_allows_it() -> None:
    breaches = []
    for found in all_imports():
        if found.file.suffix in (".pyx", ".pxd"):
            allowed = {"numpy", "xxhash", "cython", "libc", "libcpp", "cpython", "posix"}
        else:
            allowed = THIRD_PARTY_EVERYWHERE | THIRD_PARTY.get(room_of(found.file), set())
        allowed = allowed | ONLY_IN.get(found.file, set())
        top = found.module.split(".")[0]
        if top not in allowed | {"fastfeed"} and top not in sys.stdlib_module_names:
            breaches.append(str(found))
    assert not breaches, "\n".join(["not a dependency, or not here:", *breaches])


def test_the_reference_reader_reaches_no_compiled_module() -> None:
    """It is the oracle of every fast path, so it shares nothing with them, nor do its helpers."""
    waiting, seen = [PACKAGE / "format" / "reference.py"], set()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for found in python_imports(file):
            assert not found.module.startswith("fastfeed._native"), f"{found}"
            assert "_native" not in found.names, f"{found}"
            for candidate in (found.module, *(f"{found.module}.{name}" for name in found.names)):
                path = ROOT / (candidate.replace(".", "/") + ".py")
                if path.is_file():
                    waiting.append(path)


def test_every_module_opens_with_its_job() -> None:
    folders = ("fastfeed", "benchmarks", "examples", "tests/helpers")
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    missing = [
        str(file.relative_to(ROOT))
        for file in files
        if PACKAGE in file.parents or file.name != "__init__.py"
        if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert not missing, f"no docstring: {missing}"


def test_compiled_modules_live_only_in_native() -> None:
    stray = [
        file
        for suffix in ("pyx", "pxd")
        for file in PACKAGE.rglob(f"*.{suffix}")
        if room_of(file) != "_native"
    ]
    assert not stray


CORE = sorted(file for suffix in ("cpp", "hpp") for file in (ROOT / "csrc").rglob(f"*.{suffix}"))
CORE_SHIPPED = [file for file in CORE if file.relative_to(ROOT / "csrc").parts[0] not in ("tests", "fuzz")]


class TestTheCore:
    @pytest.mark.parametrize("file", CORE, ids=lambda file: str(file.relative_to(ROOT / "csrc")))
    def test_knows_nothing_of_python(self, file: Path) -> None:
        assert not re.search(
            r'#\s*include\s*[<"][^>"]*(Python|numpy|pybind)[^>"]*[>"]', file.read_text(encoding="utf-8")
        )

    @pytest.mark.parametrize("file", CORE_SHIPPED, ids=lambda file: str(file.relative_to(ROOT / "csrc")))
    def test_declares_no_mutable_static(self, file: Path) -> None:
        """Functions and constants, made at once or at first use, may be static; nothing else."""
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            code = line.split("//")[0]
            if not re.match(r"\s*(inline\s+)?(static|thread_local)\s", code):
                continue
            declaration = re.split(r"[={]", code)[0]
            constant = re.search(r"\b(const|constexpr|consteval)\b", declaration)
            assert constant or "(" in declaration, f"{file.relative_to(ROOT)}:{number}: {line.strip()}"

    def test_has_no_mutable_global_in_its_objects(self) -> None:
        """Constants that need relocation lie in .data.rel.ro; one made at first use has a guard beside it."""
        objects = sorted((ROOT / "build").glob("core-*/*.o"))
        assert objects, "no objects of the core in build/: run `make build`"
        breaches = []
        for path in objects:
            table = subprocess.run(
                ["objdump", "-t", str(path)], capture_output=True, text=True, check=True
            ).stdout
            symbols = SYMBOL.findall(table)
            names = {name for _, name in symbols}
            breaches += [
                f"{path.name}: {name} in {section}"
                for section, name in symbols
                if not section.startswith(".data.rel.ro")
                and name != section
                and not name.startswith(("_ZGV", "DW.ref."))
                and "_ZGV" + name.removeprefix("_Z") not in names
            ]
        assert not breaches, "\n".join(breaches)


class TestTheRepository:
    def test_no_file_has_two_jobs(self) -> None:
        long = {
            str(file.relative_to(ROOT)): count
            for file in tracked_files()
            if file.suffix in (".py", ".pyi", ".pyx", ".pxd", ".cpp", ".hpp")
            and (count := len(file.read_text(encoding="utf-8").splitlines())) > FILE_LINES_MAX
        }
        assert not long, f"more than {FILE_LINES_MAX} lines: {long}"

    def test_no_large_file_is_tracked(self) -> None:
        """Golden shards are data on purpose; anything else of this size is made when it is needed."""
        large = [
            str(file.relative_to(ROOT))
            for file in tracked_files()
            if file.stat().st_size > FILE_BYTES_MAX and (ROOT / "tests" / "compat") not in file.parents
        ]
        assert not large

    def test_the_top_level_stays_small(self) -> None:
        assert {file.relative_to(ROOT).parts[0] for file in tracked_files()} <= TOP_LEVEL
