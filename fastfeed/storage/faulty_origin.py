"""An origin that fails by script: for tests, and for trying out what trouble of a storage does.

Each attempt of a scripted operation takes the next step: "." works; "e" fails and may work later (503); "t" is
throttled (429, with Retry-After: `retry_after_s`); "r" is reset in the middle of the body; "h" hangs until it is
cancelled; "s" answers after `slow_s`; "d" is denied (403); "n" is not there (404); "c" finds another object; "b" gives
a body with one bit flipped; "l" works, and the answer is lost. A script that is used up works from then on; with
`again`, it begins anew.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import TypeVar

from fastfeed.errors import ConfigError, OriginChangedError, OriginDeniedError
from fastfeed.storage.failures import TransientOriginError, no_such_object
from fastfeed.storage.protocol import Listed, ObjectInfo, Origin, Piece

T = TypeVar("T")
OPERATIONS = ("head", "get_range", "list", "put", "delete")
STEPS = ".etrhsdncbl"


class FaultyOrigin:
    """Wraps `inner`. scripts: operation -> steps. `calls` lists (operation, path) of every attempt."""

    def __init__(
        self,
        inner: Origin,
        scripts: Mapping[str, str],
        *,
        again: bool = False,
        retry_after_s: float = 0.05,
        slow_s: float = 0.05,
    ) -> None:
        for operation, script in scripts.items():
            if operation not in OPERATIONS or set(script) - set(STEPS):
                raise ConfigError(
                    f"cannot script {operation!r} with {script!r}: operations are {', '.join(OPERATIONS)}; steps are "
                    f"the characters of {STEPS!r}."
                )
        self.inner = inner
        self.calls: list[tuple[str, str]] = []
        self._scripts: dict[str, Iterator[str]] = {
            operation: itertools.cycle(script) if again else iter(script) for operation, script in scripts.items()
        }
        self._retry_after_s = retry_after_s
        self._slow_s = slow_s

    @property
    def url(self) -> str:
        return self.inner.url

    async def head(self, path: str) -> ObjectInfo:
        return await self._step("head", path, lambda: self.inner.head(path))

    async def get_range(self, path: str, start: int, stop: int, *, etag: str | None = None) -> Piece:
        return await self._step("get_range", path, lambda: self.inner.get_range(path, start, stop, etag=etag))

    async def list(self, prefix: str, *, recursive: bool = False) -> AsyncIterator[Listed]:
        async def all_lines() -> list[Listed]:
            return [each async for each in self.inner.list(prefix, recursive=recursive)]

        for each in await self._step("list", prefix, all_lines):
            yield each

    async def put(self, path: str, data: bytes | memoryview, *, if_absent: bool = False, tag: str = "") -> None:
        await self._step("put", path, lambda: self.inner.put(path, data, if_absent=if_absent, tag=tag))

    async def delete(self, path: str) -> None:
        await self._step("delete", path, lambda: self.inner.delete(path))

    async def close(self) -> None:
        await self.inner.close()

    async def _step(self, operation: str, path: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls.append((operation, path))
        step = next(self._scripts.get(operation, iter("")), ".")
        if step == "h":
            await asyncio.Event().wait()
        if step == "s":
            await asyncio.sleep(self._slow_s)
        if (failure := self._failure(step, path)) is not None:
            raise failure
        result = await call()
        if step in "rl":
            raise TransientOriginError(f"the connection was reset ({path}, by script)")
        return _flipped(result) if step == "b" else result

    def _failure(self, step: str, path: str) -> Exception | None:
        where = f"{self.url}/{path}"
        if step == "e":
            return TransientOriginError(f"503 Service Unavailable ({path}, by script)")
        if step == "t":
            return TransientOriginError("429 (by script)", throttled=True, retry_after_s=self._retry_after_s)
        if step == "d":
            return OriginDeniedError(f"{where}: 403 Forbidden (by script).")
        if step == "n":
            return no_such_object(self.url, path)
        if step == "c":
            return OriginChangedError(f"{where}: was replaced (by script).")
        return None


def _flipped(result: T) -> T:
    """A piece with one bit of its middle flipped; other answers as they are."""
    if not isinstance(result, Piece):
        return result
    data = bytearray(result.data)
    data[len(data) // 2] ^= 1
    flipped: T = result._replace(data=memoryview(data).toreadonly())
    return flipped
