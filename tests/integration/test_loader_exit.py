"""Programs that end while a loader works: at once, whatever it does."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.loader_data import write_rows
from tests.helpers.programs import unmeasured_environment

# Ctrl-C must end a program within this time; the interpreter's own exit is in it.
INTERRUPT_S = 1.0
# An exit that hangs is found by this; it has no meaning else.
HANG_S = 60.0

BEGIN = """
import sys, threading
from fastfeed.loader.loader import Loader
from tests.helpers import loader_callables as functions
"""
ITERATE = BEGIN + """
loader = Loader(sys.argv[1], batch_size=2, columns=["id", "text"], {options})
while True:
    for number, batch in enumerate(loader):
        if number == 3:
            print("running", flush=True)
"""
WAIT = BEGIN + """
never = threading.Event()
loader = Loader(sys.argv[1], batch_size=2, columns=["id"], map_batch=lambda batch: never.wait())
print("running", flush=True)
next(iter(loader))
"""
LEAVE = BEGIN + """
if __name__ == "__main__":
    loader = Loader(sys.argv[1], batch_size=2, columns=["id", "text"], {options})
    iterator = iter(loader)
    next(iterator)
    print("leaving", flush=True)
"""
OPTIONS = {
    "native": "",
    "threads": "map_batch=functions.drawn, python_workers=2",
    "processes": "map_batch=functions.drawn, python_workers=2, python_mode='processes'",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("exit") / "data"
    write_rows(place, 400)
    return place


def start(program: str, place: Path, folder: Path) -> subprocess.Popen[str]:
    """Run `program` from a file, which spawned processes need."""
    file = folder / "program.py"
    file.write_text(program)
    return subprocess.Popen([sys.executable, file, place], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=unmeasured_environment())


INTERRUPTED = {kind: ITERATE.format(options=options) for kind, options in OPTIONS.items() if kind != "processes"}
INTERRUPTED["wait"] = WAIT


@pytest.mark.parametrize("kind", list(INTERRUPTED))
def test_an_interrupt_ends_the_program_at_once(kind, place, tmp_path):
    process = start(INTERRUPTED[kind], place, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=HANG_S)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in errors
    assert time.monotonic() - began < INTERRUPT_S


@pytest.mark.parametrize("kind", list(OPTIONS))
def test_the_interpreter_exits_in_the_middle_of_an_iteration(kind, place, tmp_path):
    process = start(LEAVE.format(options=OPTIONS[kind]), place, tmp_path)
    output, errors = process.communicate(timeout=HANG_S)
    assert (process.returncode, output, errors) == (0, "leaving\n", "")
