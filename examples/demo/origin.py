"""A plain web server of a folder, on loopback: the demo's object store. It counts what it sends.

`python origin.py FOLDER` prints its URL, and when its input ends how many bytes of shards it has sent, and leaves.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from aiohttp import web


async def serve(folder: Path) -> None:
    sent_bytes = 0

    async def count(request: web.Request, response: web.StreamResponse) -> None:
        nonlocal sent_bytes
        if request.path.endswith(".ffs"):
            sent_bytes += response.content_length or 0

    app = web.Application()
    app.on_response_prepare.append(count)
    # Its pages of links are what fastfeed lists, and it answers ranges.
    app.router.add_static("/", folder, show_index=True)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    finally:
        await runner.cleanup()
    print(sent_bytes, flush=True)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
