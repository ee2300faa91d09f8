"""The core of the demo, from an installed wheel: `wheel_proof.py IMAGES LIBRARY...`, in an empty folder.

Converts a folder of images with the command, verifies the dataset, trains a small classifier over the loader in numpy,
writes and reads compressed texts and tokens, and checks that only the wheel's own copies of the libraries were loaded.
Needs the wheel and its dependencies, nothing else.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

import fastfeed as ff

CLASSES = ("blue", "red")
SIDE = 16
IMAGES_PER_CLASS = 40
EPOCHS = 4
LEARNING_RATE = 0.5
ACCURACY_MIN = 0.95


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """An RGB PNG, by hand: the wheel brings no encoder."""
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def make_photos(folder: Path) -> None:
    """Noise with more blue in one class and more red in the other."""
    random = np.random.default_rng(0)
    for channel, name in ((2, "blue"), (0, "red")):
        (folder / name).mkdir(parents=True)
        for number in range(IMAGES_PER_CLASS):
            pixels = random.integers(0, 160, (SIDE, SIDE, 3), np.uint8)
            pixels[:, :, channel] += 90
            (folder / name / f"{number:03}.png").write_bytes(png(pixels))


def command(*arguments: str | Path) -> str:
    """`fastfeed ...`, as a user runs it."""
    program = Path(sys.executable).with_name("fastfeed")
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


def train(url: str) -> float:
    """Logistic regression on the mean colour of random crops; the accuracy over whole images."""
    dataset = ff.open(url)
    augment = [ff.image.RandomResizedCrop(8), ff.image.RandomHorizontalFlip()]
    loader = ff.Loader(dataset, batch_size=16, seed=1, transforms={"image": augment})
    weights = np.zeros(4)
    for epoch in range(EPOCHS):
        loader.set_epoch(epoch)
        for batch in loader:
            inputs = colours(batch["image"])
            error = 1 / (1 + np.exp(-inputs @ weights)) - batch["label"]
            weights -= LEARNING_RATE * inputs.T @ error / len(error)
    shrink = {"image": [ff.image.Resize((8, 8))]}
    whole = ff.Loader(dataset, batch_size=16, shuffle=False, last="short", transforms=shrink)
    right = sum(int(((colours(batch["image"]) @ weights > 0) == batch["label"]).sum()) for batch in whole)
    return right / len(dataset)


def colours(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """[n, 4]: the mean of each channel around 0, and 1."""
    return np.c_[images.mean(axis=(2, 3)) / 128 - 1, np.ones(len(images))]


def decode_every_encoding(folder: Path) -> int:
    """JPEG, PNG and WebP files of other encoders through a dataset. How many."""
    schema = ff.Schema({"image": ff.Image()})
    files = sorted(folder.iterdir())
    with ff.DatasetWriter("encodings", schema) as writer:
        for file in files:
            writer.write({"image": file.read_bytes()})
    batch = next(iter(ff.Loader("encodings", batch_size=len(files), transforms={"image": [ff.image.Resize((9, 9))]})))
    assert batch["image"].shape == (len(files), 3, 9, 9)
    assert batch["image"].std(axis=(1, 2, 3)).min() > 0
    return len(files)


def write_texts_and_tokens() -> None:
    """zstd with a dictionary, and a stream."""
    texts = [f"sample {number} of a text that repeats, and repeats, and says {number * 7919}" for number in range(3000)]
    with ff.DatasetWriter("texts", ff.Schema({"text": ff.Text(codec="zstd")})) as writer:
        for text in texts:
            writer.write({"text": text})
    assert ff.open("texts").take(range(3000))["text"].tolist() == texts
    with ff.TokenWriter("tokens", dtype="uint16") as tokens:
        for start in range(0, 5000, 100):
            tokens.write(np.arange(start, start + 100, dtype=np.uint16))
    assert ff.open("tokens").windows(1000)[3]["tokens"].tolist() == list(range(3000, 4000))


def foreign_copies(libraries: list[str]) -> list[str]:
    """Mapped files of these libraries that are not the wheel's."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return []
    mapped = set(re.findall(r"/\S+\.so\S*", maps.read_text()))
    own = Path(ff.__file__).resolve().parents[1] / "fastfeed.libs"
    return sorted(file for file in mapped
                  if re.split(r"[-.]", Path(file).name)[0] in libraries and Path(file).parent != own)  # fmt: skip


def main() -> int:
    folder, libraries = Path(sys.argv[1]), sys.argv[2:]
    assert Path(ff.__file__).is_relative_to(sys.prefix), f"{ff.__file__} is not the wheel's"
    assert not Path("fastfeed").exists()
    compilers = [name for name in ("gcc", "g++", "cc", "clang") if works(name)]
    assert not compilers, f"there are compilers: {compilers}"
    assert not Path("/usr/include/jpeglib.h").exists() or not hidden(), "headers are there"
    make_photos(Path("photos"))
    command("convert", "photos", "dataset", "--quiet")
    command("verify", "dataset")
    accuracy = train("dataset")
    assert accuracy >= ACCURACY_MIN, f"accuracy {accuracy:.3f}"
    encodings = decode_every_encoding(folder)
    write_texts_and_tokens()
    foreign = foreign_copies(libraries)
    assert not foreign, f"not the wheel's libraries: {foreign}"
    print(f"fastfeed {ff.__version__} from {Path(ff.__file__).parent}: trained to {accuracy:.0%} on "
          f"{len(CLASSES) * IMAGES_PER_CLASS} images, decoded {encodings} encodings, read texts and tokens; "
          f"libraries of its own: {', '.join(libraries)}")  # fmt: skip
    return 0


def hidden() -> bool:
    """Whether the headers' folder was hidden by an empty one."""
    return Path("/usr/include").is_dir() and not any(Path("/usr/include").iterdir())


def works(compiler: str) -> bool:
    """Whether the compiler is there and is a program (a hidden one is an empty file)."""
    found = shutil.which(compiler)
    return found is not None and Path(found).resolve().is_file() and Path(found).stat().st_size > 0


if __name__ == "__main__":
    sys.exit(main())
