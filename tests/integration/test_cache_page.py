"""The daemon's page in a real browser: headless Chromium, without a network, against a made-up daemon."""

from __future__ import annotations

import asyncio
import dataclasses
import html
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastfeed.daemon.config import Address
from fastfeed.daemon.http import HttpPort
from tests.helpers.daemon_reports import FixedReporter, job, pool, port_of, report, with_history

CHROMIUM = shutil.which("chromium")
# Virtual time: the page's first polls are over, whatever the machine is doing.
BUDGET_MS = 3000
TIMEOUT_S = 120.0
HOSTILE = "<img src=x onerror=\"document.title='taken over'\">"


async def browse(url: str, folder: Path, *options: str) -> tuple[str, str]:
    """What Chromium wrote to stdout, and the page's own messages on its console."""
    assert CHROMIUM is not None
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, "--headless", *sandbox, "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", f"--virtual-time-budget={BUDGET_MS}",
        # Nothing but this machine: every other name is unknown.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", *options, url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    messages = "\n".join(line for line in err.decode().splitlines() if "CONSOLE" in line)
    return out.decode(), messages


def shown(port: HttpPort, folder: Path, *options: str) -> tuple[str, str]:
    async def run() -> tuple[str, str]:
        await port.start(Address("127.0.0.1", 0))
        try:
            return await browse(port.url, folder, *options)
        finally:
            await port.close()

    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    return asyncio.run(run())


def test_the_page_shows_tiers_jobs_disks_and_errors_and_says_nothing_on_its_console(tmp_path: Path) -> None:
    now_s = 1_800_003_000.0
    dom, messages = shown(with_history(now_s - 3000, now_s), tmp_path, "--dump-dom")
    assert messages == ""
    for text in ("degraded", "resnet50",
                 "s3://data/laion/aesthetic-6plus/2026-10", "its future is not known", "nvme1",
                 "a write took 7.2 s", "25 throttled", "71 % hits, 3.1 GB/s from the origin",
                 "60 min ago"):  # fmt: skip
        assert text in dom, text
    # The lines of both charts: hit rate, and one a tier.
    for name in ('class="hit"', 'class="line slab"', 'class="line ring"', 'class="line origin"'):
        assert dom.count(f"<path {name}") == 1, name


def test_a_screenshot_has_charts_in_their_colours(tmp_path: Path) -> None:
    """Not a comparison with a stored picture: fonts differ between machines."""
    now_s = 1_800_003_000.0
    picture = tmp_path / "page.png"
    shown(with_history(now_s - 3000, now_s), tmp_path, f"--screenshot={picture}", "--window-size=1280,1000")
    pixels = np.asarray(Image.open(io.BytesIO(picture.read_bytes())).convert("RGB")).astype(int)
    assert pixels.shape == (1000, 1280, 3)
    for colour in ((0x2F, 0x7D, 0x5B), (0xD2, 0x9A, 0x2E), (0x3B, 0x6F, 0xB6)):
        assert (abs(pixels - colour).sum(axis=2) < 12).sum() > 200, f"nothing is drawn in {colour}"


def test_a_daemon_that_has_just_started_and_one_without_jobs_have_a_page_too(tmp_path: Path) -> None:
    empty = dataclasses.replace(pool(), jobs=(), origins=(), disks=())
    dom, messages = shown(port_of(FixedReporter(report(empty, troubles=()))), tmp_path, "--dump-dom")
    assert messages == ""
    for text in ("no job is registered", "no origin was asked yet", "none since the start", "the first points come"):
        assert text in dom, text


def test_what_users_wrote_is_shown_as_text_and_never_run(tmp_path: Path) -> None:
    hostile = pool(jobs=(job(HOSTILE, 1, url=HOSTILE, forecast={"text": HOSTILE}),))
    dom, messages = shown(port_of(FixedReporter(report(hostile))), tmp_path, "--dump-dom")
    assert messages == ""
    assert html.escape(HOSTILE, quote=False) in dom
    assert "<img" not in dom
    assert "<title>fastfeed cache</title>" in dom
