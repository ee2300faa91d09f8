"""The largest count that passes, by few trials, where a trial is dear and more is harder."""

from __future__ import annotations

from collections.abc import Callable


def largest(passes: Callable[[int], bool], guess: int, limit: int) -> int:
    """The largest n in 1 .. limit for which passes(n), 0 if there is none; no n is tried twice.

    passes: whether n is reached; if it is, so is every smaller one. guess: where to begin; from there in steps that
    double, and between the nearest that were tried: about 2 log2(|result - guess|) trials.
    """
    reached, missed = 0, limit + 1
    trial, stride = min(max(1, guess), limit), 1
    while missed - reached > 1:
        if passes(trial):
            reached, ahead = trial, trial + stride
        else:
            missed, ahead = trial, trial - stride
        stride *= 2
        trial = ahead if reached < ahead < missed else (reached + missed) // 2
    return reached
