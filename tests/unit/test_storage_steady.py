"""Limits, retries, deadlines and pauses around an origin that fails by script, on a clock that only sleeping moves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastfeed.errors import ConfigError, OriginChangedError, OriginDeniedError, OriginError
from fastfeed.storage.failures import TransientOriginError
from fastfeed.storage.faulty_origin import FaultyOrigin
from fastfeed.storage.memory_origin import MemoryOrigin
from fastfeed.storage.options import OriginOptions
from fastfeed.storage.protocol import RANGE_BYTES_MAX
from fastfeed.storage.steady import LATENCY_BOUNDS_S, PAUSE_S_MAX, SteadyOrigin

DATA = bytes(range(100))


class FakeClock:
    """Time passes only in `sleep`."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []

    def now(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


def steady(
    scripts: dict[str, str], clock: FakeClock | None = None, *, faults: dict[str, Any] | None = None, **options: Any
) -> tuple[SteadyOrigin, FaultyOrigin]:
    """An origin with `object` in it, and the faulty one inside. Random waits are at their longest."""
    inner = MemoryOrigin()
    asyncio.run(inner.put("object", DATA))
    faulty = FaultyOrigin(inner, scripts, **(faults or {}))
    if clock is None:
        return SteadyOrigin(faulty, OriginOptions(**options)), faulty
    return SteadyOrigin(faulty, OriginOptions(**options), now=clock.now, sleep=clock.sleep, chance=lambda: 1.0), faulty


def read(origin: SteadyOrigin, start: int = 0, stop: int = 100) -> bytes:
    return bytes(asyncio.run(origin.get_range("object", start, stop)).data)


class TestRetries:
    @pytest.mark.parametrize("script", ["e", "eee", "r", "er", "t", "tet"])
    def test_what_another_attempt_mends_is_mended(self, script: str) -> None:
        origin, faulty = steady({"get_range": script}, FakeClock())
        assert read(origin) == DATA
        assert len(faulty.calls) == len(script) + 1
        assert origin.counters.retries == len(script)
        assert origin.counters.throttled == script.count("t")
        assert origin.counters.requests == 1
        assert origin.counters.failures == 0
        assert origin.counters.read_bytes == 100

    @pytest.mark.parametrize(
        ("step", "error"), [("d", OriginDeniedError), ("c", OriginChangedError), ("n", FileNotFoundError)]
    )
    def test_what_no_attempt_mends_is_the_answer_at_once(self, step: str, error: type[Exception]) -> None:
        origin, faulty = steady({"get_range": step}, FakeClock())
        with pytest.raises(error, match="object"):
            read(origin)
        assert len(faulty.calls) == 1
        assert origin.counters.failures == (0 if step == "n" else 1)

    def test_waits_double_up_to_the_longest(self) -> None:
        clock = FakeClock()
        origin, _ = steady({"get_range": "eeeeee"}, clock, backoff_s=0.1, backoff_s_max=1.0, retries_per_s=1e9)
        read(origin)
        assert clock.slept_s == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])

    def test_after_all_attempts_the_error_says_what_was_met_and_what_to_do(self) -> None:
        origin, faulty = steady({"get_range": "e" * 9}, FakeClock(), retries_max=3)
        with pytest.raises(OriginError, match=r"GET object \[0:100\] failed 4 times .*503.*retries_max \(3\)") as found:
            read(origin)
        assert not isinstance(found.value, TransientOriginError)
        assert len(faulty.calls) == 4
        assert origin.counters.failures == 1

    def test_no_attempt_begins_that_could_not_end_before_the_deadline(self) -> None:
        clock = FakeClock()
        origin, faulty = steady(
            {"get_range": "e" * 99}, clock, retries_max=98, deadline_s=10.0, backoff_s=1.0, backoff_s_max=4.0
        )
        with pytest.raises(OriginError, match=r"deadline_s \(10\)"):
            read(origin)
        assert clock.now_s - 1000 < 10.0
        assert len(faulty.calls) == 4  # at 0, 1, 3 and 7 s

    def test_retries_of_all_requests_are_spaced(self) -> None:
        """Twenty requests that fail once: without the spacing all twenty would come back at the same time."""
        clock = FakeClock()
        origin, faulty = steady({"get_range": "e" * 20}, clock, backoff_s=0.0, retries_per_s=10.0)

        async def all_at_once() -> None:
            await asyncio.gather(*(origin.get_range("object", 0, 1) for _ in range(20)))

        asyncio.run(all_at_once())
        assert len(faulty.calls) == 40
        assert clock.now_s - 1000 >= 1.9

    def test_listings_and_heads_and_deletions_are_repeated_too(self) -> None:
        origin, faulty = steady({"list": "e", "head": "e", "delete": "e"}, FakeClock())

        async def use() -> None:
            assert [each.path async for each in origin.list("")] == ["object"]
            assert (await origin.head("object")).size_bytes == 100
            await origin.delete("object")
            assert [each async for each in origin.list("")] == []
            await origin.close()

        asyncio.run(use())
        assert len(faulty.calls) == 7

    def test_a_put_whose_answer_was_lost_has_succeeded_and_wins_no_race_twice(self) -> None:
        """The first attempt makes the object, the second finds it there: it is ours. Another's is not."""
        origin, faulty = steady({"put": "l"}, FakeClock())
        asyncio.run(origin.put("new", b"ours", if_absent=True))
        assert faulty.calls == [("put", "new"), ("put", "new")]
        with pytest.raises(FileExistsError):
            asyncio.run(origin.put("new", b"ours", if_absent=True))
        assert origin.counters.written_bytes == 4


class TestPauses:
    def test_nobody_asks_a_throttled_origin_before_it_has_said(self) -> None:
        clock = FakeClock()
        origin, faulty = steady({"get_range": "t"}, clock, faults={"retry_after_s": 7.0})

        async def one_throttled_and_three_that_come_later() -> None:
            first = asyncio.create_task(origin.get_range("object", 0, 1))
            while not faulty.calls:
                await asyncio.sleep(0)
            await asyncio.gather(*(origin.get_range("object", 0, 1) for _ in range(3)))
            await first

        asyncio.run(one_throttled_and_three_that_come_later())
        assert clock.now_s - 1000 >= 7.0
        assert len(faulty.calls) == 5

    def test_a_pause_longer_than_the_deadline_is_an_error_that_says_it(self) -> None:
        clock = FakeClock()
        origin, faulty = steady({"get_range": "t"}, clock, faults={"retry_after_s": 120.0}, deadline_s=30.0)
        for _ in range(2):  # who comes during the pause is told too, without asking the origin
            with pytest.raises(OriginError, match="left alone for 120 s"):
                read(origin)
        assert len(faulty.calls) == 1
        assert clock.now_s < 1001

    def test_a_retry_after_without_end_is_not_believed(self) -> None:
        clock = FakeClock()
        origin, _ = steady({"get_range": "t"}, clock, faults={"retry_after_s": 1e9})
        with pytest.raises(OriginError):
            read(origin)
        clock.now_s += PAUSE_S_MAX
        assert read(origin) == DATA


class TestLimits:
    def test_so_many_are_in_flight_and_no_more(self) -> None:
        origin, inside = _counting(in_flight_max=3)

        async def many() -> None:
            await asyncio.gather(*(origin.get_range("object", 0, 1) for _ in range(20)))

        asyncio.run(many())
        assert max(inside) == 3
        assert origin.in_flight == 0
        assert origin.waiting == 0

    def test_a_changed_limit_holds_at_once(self) -> None:
        origin, inside = _counting(in_flight_max=1)

        async def many() -> None:
            reads = [asyncio.create_task(origin.get_range("object", 0, 1)) for _ in range(10)]
            while not inside:
                await asyncio.sleep(0)
            assert origin.waiting == 9
            origin.set_limits(OriginOptions(in_flight_max=4))
            await asyncio.gather(*reads)

        asyncio.run(many())
        assert max(inside) == 4

    def test_who_is_cancelled_while_waiting_leaves_its_place(self) -> None:
        origin, faulty = steady({"get_range": "h"}, in_flight_max=1, timeout_s=60)

        async def cancel() -> None:
            hung = asyncio.create_task(origin.get_range("object", 0, 1))
            while not faulty.calls:
                await asyncio.sleep(0)
            waiting = [asyncio.create_task(origin.get_range("object", 0, 1)) for _ in range(2)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            hung.cancel()
            assert bytes((await waiting[1]).data) == DATA[:1]
            assert origin.in_flight == 0

        asyncio.run(cancel())

    def test_bytes_are_paced_over_all_requests(self) -> None:
        clock = FakeClock()
        origin, _ = steady({}, clock, bytes_per_s_max=100)
        for _ in range(5):
            read(origin)
        assert clock.now_s - 1000 == pytest.approx(4.0)  # the first goes at once

    def test_waiting_for_our_own_pace_is_no_fault_of_the_origin(self) -> None:
        clock = FakeClock()
        origin, _ = steady({}, clock, bytes_per_s_max=10, deadline_s=5.0)
        for _ in range(3):
            assert read(origin) == DATA
        assert clock.now_s - 1000 == pytest.approx(20.0)

    @pytest.mark.parametrize(("start", "stop"), [(5, 5), (-1, 5), (6, 5), (0, RANGE_BYTES_MAX + 1)])
    def test_a_range_that_is_none_is_the_callers_mistake(self, start: int, stop: int) -> None:
        with pytest.raises(ValueError, match="are no range"):
            read(steady({})[0], start, stop)


class TestTimes:
    """With the real clock: these times are an event loop's."""

    def test_a_hang_ends_with_the_time_limit_and_another_attempt(self) -> None:
        origin, faulty = steady({"get_range": "h"}, timeout_s=0.05, backoff_s=0.001)
        assert read(origin) == DATA
        assert origin.counters.timeouts == 1
        assert len(faulty.calls) == 2

    def test_a_trickle_is_given_up_for_another_attempt(self) -> None:
        """100 bytes at 1,000 a second are given 0.1 s and the time limit; the slow answer would take 30 s."""
        origin, _ = steady(
            {"get_range": "s"}, faults={"slow_s": 30.0}, timeout_s=0.02, slow_bytes_per_s=1000, backoff_s=0.001
        )
        assert read(origin) == DATA
        assert origin.counters.timeouts == 1

    def test_an_origin_that_hangs_for_ever_is_an_error_within_the_deadline(self) -> None:
        origin, _ = steady({"get_range": "h"}, faults={"again": True}, timeout_s=0.02, deadline_s=0.1, backoff_s=0.001)
        with pytest.raises(OriginError, match="no whole answer"):
            read(origin)

    def test_a_listing_that_hangs_ends_too(self) -> None:
        origin, _ = steady({"list": "h"}, timeout_s=0.02, backoff_s=0.001)

        async def names() -> list[str]:
            return [each.path async for each in origin.list("")]

        assert asyncio.run(names()) == ["object"]

    def test_answers_are_counted_by_how_long_they_took(self) -> None:
        origin, _ = steady({"get_range": ".s"}, faults={"slow_s": 0.03})
        read(origin)
        read(origin)
        counters = origin.counters
        assert sum(counters.latency_counts) == 2
        assert len(counters.latency_counts) == len(LATENCY_BOUNDS_S) + 1
        assert sum(counters.latency_counts[:2]) == 1
        assert counters.latency_s >= 0.03


class TestTheFaultyOrigin:
    def test_flips_a_bit_that_no_length_betrays(self) -> None:
        origin, _ = steady({"get_range": "b"})
        found = read(origin)
        assert len(found) == 100
        assert sum((a ^ b).bit_count() for a, b in zip(found, DATA, strict=True)) == 1

    @pytest.mark.parametrize("scripts", [{"read": "e"}, {"head": "x"}])
    def test_refuses_a_script_that_it_does_not_know(self, scripts: dict[str, str]) -> None:
        with pytest.raises(ConfigError, match="cannot script"):
            FaultyOrigin(MemoryOrigin(), scripts)

    def test_lists_what_it_was_asked(self) -> None:
        origin, faulty = steady({})
        assert origin.url == faulty.url == "memory://origin"
        asyncio.run(origin.delete("nothing"))
        assert faulty.calls == [("delete", "nothing")]


class TestOptions:
    @pytest.mark.parametrize(
        "given",
        [
            {"timeout_s": 0},
            {"deadline_s": -1},
            {"in_flight_max": 0},
            {"retries_max": -1},
            {"backoff_s": -0.1},
            {"bytes_per_s_max": 0},
            {"anonymous": True, "access_key_id": "key", "secret_access_key": "secret"},
            {"access_key_id": "key"},
        ],
    )
    def test_that_make_no_sense_are_refused(self, given: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            OriginOptions(**given)

    def test_do_not_show_secrets(self) -> None:
        shown = repr(OriginOptions(access_key_id="key", secret_access_key="hush", session_token="hush"))
        assert "hush" not in shown


def _counting(**options: Any) -> tuple[SteadyOrigin, list[int]]:
    """An origin, and how many were in it at each attempt."""
    inside: list[int] = []
    inner = MemoryOrigin()
    asyncio.run(inner.put("object", DATA))

    class Counting(MemoryOrigin):
        async def get_range(self, *args: Any, **kwargs: Any) -> Any:
            counting.append(1)
            inside.append(len(counting))
            for _ in range(5):
                await asyncio.sleep(0)
            counting.pop()
            return await inner.get_range(*args, **kwargs)

    counting: list[int] = []
    return SteadyOrigin(Counting(), OriginOptions(**options)), inside
