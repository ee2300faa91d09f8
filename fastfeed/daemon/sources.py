"""The origins of one pool, as its fetches use them: one a root and table of options, with what waits for it.

Which URLs a pool may read, and with which options and credentials, is the configuration's to say, never the client's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from fastfeed.daemon.config import PoolConfig
from fastfeed.daemon.fair_queue import FairQueue
from fastfeed.errors import ConfigError
from fastfeed.storage.options import OriginOptions
from fastfeed.storage.origins import open_origin
from fastfeed.storage.places import place_of
from fastfeed.storage.steady import SteadyOrigin

if TYPE_CHECKING:
    from fastfeed.daemon.fetch import Demand

OpenOrigin = Callable[[str, OriginOptions], tuple[SteadyOrigin, str]]


class Source:
    """One origin. demand: what clients wait for, a lane each. running: requests of fetches under way."""

    def __init__(self, name: str, origin: SteadyOrigin, endpoint: str, in_flight_max: int) -> None:
        self.name, self.origin, self.endpoint = name, origin, endpoint
        self.in_flight_max = in_flight_max
        self.demand: FairQueue[Demand] = FairQueue()
        self.running = 0
        self.prefetches_running = 0


class Found(NamedTuple):
    """Where a URL leads."""

    source: Source
    path: str


class Sources:
    """For one event loop."""

    def __init__(self, config: PoolConfig, open_origin: OpenOrigin = open_origin) -> None:
        self._config = config
        self._open = open_origin
        self._sources: dict[tuple[str, str], Source] = {}

    def __iter__(self) -> Iterator[Source]:
        return iter(self._sources.values())

    def find(self, url: str) -> Found:
        """The source of a URL. ConfigError for a URL that this pool does not read."""
        place = place_of(url)
        options = self._config.origin_of(url)
        if options is None:
            raise ConfigError(
                f"{url}: pool {self._config.name!r} of the cache daemon does not read from there. Ask who runs it to "
                f"add an origin to the pool (pools.{self._config.name}.origins.NAME.url)."
            )
        known = self._sources.get((options.name, place.root))
        if known is None:
            origin, _ = self._open(url, options.options())
            known = Source(options.name, origin, options.endpoint or place.root, options.in_flight_max)
            self._sources[options.name, place.root] = known
        return Found(known, place.path)

    def reconfigure(self, config: PoolConfig) -> None:
        """Take over the limits of a new configuration."""
        self._config = config
        options = {each.name: each for each in (*config.origins, config.origin_default)}
        for (name, _), source in self._sources.items():
            if name in options:
                source.in_flight_max = options[name].in_flight_max
                source.origin.set_limits(options[name].options())

    async def close(self) -> None:
        """Let go of all connections."""
        for source in self._sources.values():
            await source.origin.close()
