"""Why a chunk is in the cache or not: what the pool, the fetcher and the evictor know of it, in words and as values.

Looks, changes nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastfeed.cache.future import Course
from fastfeed.daemon.objects import CachedObject
from fastfeed.daemon.pool_service import PoolService


def explain(service: PoolService, object_: CachedObject, chunk: int) -> dict[str, Any]:
    """One chunk: where it is, who needs it when, and what decides whether it stays or comes."""
    key, evictor = object_.key, service.evictor
    located = service.pool.find(key, chunk)
    is_coming = service.fetcher.is_coming(key, chunk) or service.keeper.arriving(key, chunk) is not None
    needs = [each for course in service.jobs.courses if (each := _need(service, course, key, chunk)) is not None]
    admitted, why = evictor.judge(key, chunk)
    gone = evictor.gone(key, chunk)
    pinned = key in service.catalog.pinned_keys()
    lines = [f"chunk {chunk}: {_place_text(located is not None, is_coming, gone is not None)}"]
    if located is not None:
        lines.append(f"  in slot {located.slot} on disk {located.disk}")
    lines += [f"  {_need_text(each)}" for each in needs] or ["  no registered job needs it"]
    if pinned:
        lines.append("  stays: it is pinned")
    elif located is not None:
        lines.append(
            f"  policy {service.jobs.plan.policy.name.lower()}: {_stay_text(service, key, chunk, bool(needs))}"
        )
    else:
        lines.append(f"  {'would be kept' if admitted else 'would not be kept'}: {why}")
    return {
        "chunk": chunk,
        "here": located is not None,
        "slot": None if located is None else located.slot,
        "disk": None if located is None else located.disk,
        "coming": is_coming,
        "left_before": gone is not None,
        "pinned": pinned,
        "needed_by": needs,
        "would_be_kept": admitted,
        "why": str(why),
        "text": "\n".join(lines),
    }


def _need(service: PoolService, course: Course, key: bytes, chunk: int) -> dict[str, Any] | None:
    """When one job needs the chunk, and when again; None: not in what is known of its future."""
    future = service.evictor.future
    objects, chunks = np.array([future.number(key)], np.int64), np.array([chunk], np.int64)
    number = int(future.numbers_in(course, objects, chunks)[0])
    if number < 0:
        return None
    until_s, after_s, _ = course.wanted_one(number)
    if math.isinf(until_s):
        return None
    return {"job": course.name, "in_s": until_s, "again_in_s": None if math.isinf(after_s) else after_s}


def _place_text(is_here: bool, is_coming: bool, has_left: bool) -> str:
    if is_here:
        return "is here"
    if is_coming:
        return "is on its way"
    return "was here, and left for others" if has_left else "is not here"


def _need_text(need: dict[str, Any]) -> str:
    when = "now" if need["in_s"] == 0 else f"in {need['in_s']:,.0f} s"
    again = "" if need["again_in_s"] is None else f", and again {need['again_in_s']:,.0f} s from now"
    return f"needed by {need['job']} {when}{again}"


def _stay_text(service: PoolService, key: bytes, chunk: int, is_needed: bool) -> str:
    if service.evictor.is_member(key, chunk):
        return "it is among those that stay"
    return "it stays until others are needed sooner" if is_needed else "it goes first when there is need"
