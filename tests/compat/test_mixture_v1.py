"""Mixture version 1 for ever: the vectors of docs/mixtures.md, section 8, against the core and against the oracle."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fastfeed._native.mixture import MixtureEpoch, source_seed
from fastfeed.loader.mixture import MIXTURE_VERSION
from tests.helpers import mixture_oracle

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "mixtures.md"
# The oracle walks through periods one by one.
ORACLE_PERIODS_MAX = 1_000


def vectors() -> tuple[list[str], list[str]]:
    """Lines of keys and of samples."""
    section = DOCUMENT.read_text(encoding="utf-8").split("## 8. Vectors")[1]
    keys, samples = (block.strip().splitlines() for block in re.findall(r"```text\n(.*?)```", section, re.S))
    return keys, samples


KEYS, SAMPLES = vectors()


def test_the_version_is_one() -> None:
    assert MIXTURE_VERSION == 1
    assert (len(KEYS), len(SAMPLES)) == (6, 8)


@pytest.mark.parametrize("line", KEYS)
def test_a_key_is_as_published(line: str) -> None:
    name, arguments, value = re.fullmatch(r"(\w+)\((.*)\) = (0x[0-9a-f]{16})", line).groups()  # type: ignore[union-attr]
    numbers = [int(argument.split("=")[1]) for argument in arguments.split(", ")]
    assert getattr(mixture_oracle, name)(*numbers) == int(value, 16)
    if name == "source_seed":
        assert source_seed(*numbers) == int(value, 16)


@pytest.mark.parametrize("line", SAMPLES)
def test_samples_are_as_published(line: str) -> None:
    head, tail = line.split(" | ")
    seed, epoch, *parts = head.split()
    segments = []
    for part in parts:
        periods, denominator, counts = re.split("[x:]", part)
        segments.append(mixture_oracle.Segment(int(periods), int(denominator), tuple(map(int, counts.split(",")))))
    positions, sources, indexes = np.array([[int(number) for number in item.split(":")] for item in tail.split()]).T
    core = MixtureEpoch(int(seed), int(epoch), True, segments)
    found = core.picks(positions)
    assert (found[0].tolist(), found[1].tolist()) == (sources.tolist(), indexes.tolist())
    assert core.positions_of(sources, indexes).tolist() == positions.tolist()
    if sum(segment.periods for segment in segments) <= ORACLE_PERIODS_MAX:
        oracle = mixture_oracle.OracleMixture(tuple(segments), int(seed), int(epoch))
        for position, source, index in zip(positions.tolist(), sources.tolist(), indexes.tolist(), strict=True):
            assert oracle.pick(position) == (source, index)
            assert oracle.position(source, index) == position
