"""Version 1 of the daemon's protocol for ever: bytes that were once sent are read, and the same are sent today.

`python -m tests.compat.test_wire_v1` prints the file; it is written once a version, and never again.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fastfeed.wire import hot
from fastfeed.wire import messages as m
from fastfeed.wire.framing import unpack_frame
from tests.helpers.wire_samples import CONTROL, HOT, golden_lines

GOLDEN = Path(__file__).parent / "golden" / "wire" / "v1.txt"
PACKETS = dict(line.split() for line in GOLDEN.read_text(encoding="ascii").splitlines()) if GOLDEN.exists() else {}


def test_every_message_has_golden_bytes() -> None:
    assert list(PACKETS) == [*HOT, *CONTROL]


@pytest.mark.parametrize("line", golden_lines(), ids=lambda line: line.split()[0])
def test_a_message_is_sent_as_it_always_was(line: str) -> None:
    name, packet = line.split()
    assert packet == PACKETS[name]


@pytest.mark.parametrize("name", [*HOT, *CONTROL])
def test_a_message_is_read_as_it_always_was(name: str) -> None:
    frame = unpack_frame(bytes.fromhex(PACKETS[name]))
    assert frame.request == 0x0102030405060708
    assert (hot.unpack_hot(frame) if name in HOT else m.unpack(frame)) == {**HOT, **CONTROL}[name]


def test_this_code_still_speaks_version_one() -> None:
    assert m.agreed_version(1, 1) == 1


if __name__ == "__main__":
    print("\n".join(golden_lines()))
