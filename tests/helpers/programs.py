"""Environments for programs that tests start and then interrupt, or starve."""

from __future__ import annotations

import os

from tests.helpers.repository import ROOT


def unmeasured_environment() -> dict[str, str]:
    """Ours, with this checkout in front, and without the measurement of coverage.

    Coverage's tracer takes a lock in Python code: an interrupt that arrives inside it leaves the lock taken, and the
    program waits for it for ever at the next new function.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    ours = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    return {**ours, "PYTHONPATH": path}
