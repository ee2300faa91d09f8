"""Makes csrc/fuzz/corpus/cache: answers of a daemon, right and wrong, and a trailer. Deterministic.

    python csrc/fuzz/make_cache_corpus.py
"""

from __future__ import annotations

import struct
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "corpus" / "cache"
LIVE, TRAILER, LENGTHS = 1, 2, 4
IN_SLOT, IN_RING, ERROR = 0x11, 0x12, 0x1F


def packet(kind: int, request: int, body: bytes) -> bytes:
    raw = struct.pack("<HHIQ", kind, 0, len(body), request) + body
    return bytes([len(raw)]) + raw


def slot(request: int, entry: int) -> bytes:
    return packet(IN_SLOT, request, struct.pack("<Q", entry))


def ring(request: int, at: int, length: int) -> bytes:
    return packet(IN_RING, request, struct.pack("<QI", at, length))


def error(request: int, code: int, text: bytes) -> bytes:
    return packet(ERROR, request, struct.pack("<IH", code, len(text)) + text)


def trailer() -> bytes:
    return b"FFSLOT01" + struct.pack("<Q16sQQII16I", 1 << 40, b"key of an object", 3, 5, 70_000, 0, *range(16))


INPUTS = {
    "answers": bytes([LIVE]) + slot(1, 5 << 38 | 2) + ring(2, 4096, 100) + error(3, 5, b"the origin is gone"),
    "all-by-ring": bytes([LIVE]) + ring(3, 0, 4096) + ring(1, 8191, 1) + ring(2, 2097052, 100),
    "draining": bytes([LIVE]) + error(1, 10, b"") + error(2, 10, b"leaving"),
    "slot-for-ring": bytes([LIVE]) + slot(2, 1 << 38 | 4),
    "outside-the-ring": bytes([LIVE]) + ring(2, 2097053, 100),
    "wrong-length": bytes([LIVE]) + ring(2, 0, 101),
    "twice": bytes([LIVE]) + error(1, 8, b"full") + error(1, 8, b"full"),
    "not-asked": bytes([LIVE]) + slot(9, 1),
    "unknown": bytes([LIVE | LENGTHS]) + packet(0x77, 1, b"of a later version") + ring(2, 1, 100),
    "short-slot": bytes([LENGTHS]) + packet(IN_SLOT, 1, b"1234567"),
    "short-text": bytes([LENGTHS]) + packet(ERROR, 2, struct.pack("<IH", 5, 9) + b"8 bytes."),
    "empty": bytes([LIVE, 0]),
    "trailer": bytes([TRAILER]) + trailer(),
}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in INPUTS.items():
        (FOLDER / name).write_bytes(content)
