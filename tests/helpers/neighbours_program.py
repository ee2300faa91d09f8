"""Decodes images with fastfeed and with other libraries, in one process: `neighbours_program.py NAME... IMAGE...`.

Imports the libraries in the order of their NAMEs; after each import, all that are imported decode all images. Each has
its own copies of libjpeg, libpng and libwebp: if one of them met another's symbols, pixels would change, or the process
would end. Prints, as JSON, for each library the digests of its pixels: one list a round.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def of_fastfeed(module: Any, data: bytes) -> bytes:
    from fastfeed.format.image_file import describe, thumbnail

    info = describe(data)
    return bytes(thumbnail(data, info["height"], info["width"]).tobytes())


def of_pillow(module: Any, data: bytes) -> bytes:
    with module.open(io.BytesIO(data)) as picture:
        return bytes(picture.convert("RGB").tobytes())


def of_opencv(module: Any, data: bytes) -> bytes:
    import numpy as np

    return bytes(module.imdecode(np.frombuffer(data, np.uint8), module.IMREAD_COLOR).tobytes())


def of_torchvision(module: Any, data: bytes) -> bytes:
    import torch

    return bytes(module.decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8)).numpy().tobytes())


DECODERS: dict[str, tuple[str, Callable[[Any, bytes], bytes]]] = {
    "fastfeed": ("fastfeed", of_fastfeed),
    "pillow": ("PIL.Image", of_pillow),
    "opencv": ("cv2", of_opencv),
    "torchvision": ("torchvision.io", of_torchvision),
}


def main() -> int:
    names = [argument for argument in sys.argv[1:] if argument in DECODERS]
    images = [Path(argument).read_bytes() for argument in sys.argv[1:] if argument not in DECODERS]
    loaded: dict[str, Callable[[bytes], bytes]] = {}
    rounds: dict[str, list[list[str]]] = {}
    for name in names:
        module_name, decode = DECODERS[name]
        module = importlib.import_module(module_name)
        loaded[name] = lambda data, decode=decode, module=module: decode(module, data)  # type: ignore[misc]
        for each, use in loaded.items():
            digests = [hashlib.sha256(use(image)).hexdigest()[:16] for image in images]
            rounds.setdefault(each, []).append(digests)
    print(json.dumps(rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
