"""What the data of the comparison are cut from: photographs and text that Debian ships, or what this machine has.

`debian()` downloads a few packages (360 MB) with apt and unpacks them without installing anything: wallpapers, which
are photographs of 1,200 to 6,000 pixels, and the source of Linux, which is 300 MB of ASCII. `small()` needs no network:
the photographs of scikit-image and the sources of Python's standard library, enough to show that everything works.
"""

from __future__ import annotations

import subprocess
import sysconfig
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

PACKAGES = ("gnome-backgrounds", "plasma-workspace-wallpapers", "mate-backgrounds", "ukui-wallpapers",
            "lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04", "linux-source-6.1")
TEXT_SUFFIXES = frozenset((".c", ".rst", ".txt", ".S", ".py", ".sh"))
# Above the 300 M tokens that are wanted, since what is not ASCII is dropped.
TEXT_BYTES_MAX = 330_000_000
# Smaller pictures are icons and previews.
PHOTOGRAPH_PIXELS_MIN, PHOTOGRAPH_BYTES_MIN = 1200 * 900, 200_000
# Wallpapers have up to 30 million pixels, which Pillow takes for an attack.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class Originals:
    photographs: list[Path]
    text: npt.NDArray[np.uint8]  # ASCII


def debian(folder: Path) -> Originals:
    packages, unpacked = folder / "packages", folder / "unpacked"
    if not unpacked.is_dir():
        packages.mkdir(parents=True, exist_ok=True)
        missing = [name for name in PACKAGES if not list(packages.glob(f"{name}_*.deb"))]
        if missing:
            subprocess.run(["apt-get", "download", "-q", *missing], cwd=packages, check=True)
        part = folder / "unpacked.part"
        for name in PACKAGES:
            subprocess.run(["dpkg-deb", "-x", str(max(packages.glob(f"{name}_*.deb"))), str(part)], check=True)
        part.rename(unpacked)
    tar = next(unpacked.glob("usr/src/linux-source-*.tar.xz"))
    return Originals(largest_photographs(unpacked), ascii_only(text_of_tar(tar, TEXT_BYTES_MAX)))


def small() -> Originals:
    import skimage

    names = ("chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "ihc.png", "astronaut.png")
    data = Path(skimage.__file__).parent / "data"
    library = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(path for path in library.glob("*.py") if path.is_file())
    return Originals([data / name for name in names], ascii_only(path.read_bytes() for path in files))


def largest_photographs(folder: Path) -> list[Path]:
    """Photographs under `folder`; of one that is there in several sizes, the largest."""
    found: dict[Path, tuple[int, Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp") or path.is_symlink():
            continue
        if path.stat().st_size < PHOTOGRAPH_BYTES_MIN:
            continue
        with Image.open(path) as image:
            pixels = image.width * image.height
        # KDE keeps the renditions of one picture in one folder `contents`.
        key = path.parent if "contents" in path.parts else path
        if pixels >= max(PHOTOGRAPH_PIXELS_MIN, found.get(key, (0, path))[0]):
            found[key] = (pixels, path)
    return sorted(path for _, path in found.values())


def text_of_tar(path: Path, size_max: int) -> Iterable[bytes]:
    """The sources and documents in the tar, in its order, until they are `size_max` together."""
    unpacker = subprocess.Popen(["xz", "-dc", str(path)], stdout=subprocess.PIPE)
    size = 0
    try:
        with tarfile.open(fileobj=unpacker.stdout, mode="r|") as tar:
            for member in tar:
                if member.isfile() and Path(member.name).suffix in TEXT_SUFFIXES:
                    file = tar.extractfile(member)
                    assert file is not None
                    yield (text := file.read())
                    if (size := size + len(text)) >= size_max:
                        return
    finally:
        unpacker.kill()
        unpacker.wait()


def ascii_only(texts: Iterable[bytes]) -> npt.NDArray[np.uint8]:
    letters = np.frombuffer(b"".join(texts), np.uint8)
    return letters[letters < 128]
