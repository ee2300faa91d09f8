"""Dictionaries are deterministic and bounded; sealed Arrow files are checked before they are parsed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format import arrow_tail, dictionary

SAMPLES = [f'{{"user": {i * 7919 % 1000}, "text": "sample number {i}, of many"}}'.encode() for i in range(4000)]


def test_the_same_samples_give_the_same_dictionary() -> None:
    first = dictionary.train(SAMPLES)
    assert first == dictionary.train(iter(SAMPLES))
    assert 1024 <= len(first) <= sum(map(len, SAMPLES)) // 64 + 1
    assert len(dictionary.dictionary_hash(first)) == 16


def test_too_little_to_learn_from_gives_no_dictionary() -> None:
    assert dictionary.train([]) == b""
    assert dictionary.train([b""] * 100) == b""
    assert dictionary.train(SAMPLES[:10]) == b""
    assert dictionary.train([b"x" * 100_000] * 15) == b""


def test_small_shards_get_small_dictionaries() -> None:
    sizes = [dictionary.dictionary_bytes_for(shard_bytes) for shard_bytes in (64 << 10, 1 << 20, 256 << 20)]
    assert sizes == [2 << 10, 32 << 10, 1 << 20]


def test_training_stops_at_its_budget() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield SAMPLES[taken % len(SAMPLES)]

    dictionary.train(endless(), samples_bytes=100_000)
    assert taken * 30 < 100_000
    assert dictionary.sample_budget_bytes() == dictionary.SAMPLES_BYTES_MAX == 100_000_000
    assert dictionary.sample_budget_bytes(16 * 1024) == 1_638_400


@pytest.mark.parametrize(
    "options", [{"dictionary_bytes": 10}, {"dictionary_bytes": 2**21}, {"samples_bytes": 0}, {"samples_bytes": 2**30}]
)
def test_sizes_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        dictionary.train(SAMPLES, **options)  # type: ignore[arg-type]


def test_a_sealed_file_opens_as_a_view_of_itself() -> None:
    sealed = arrow_tail.seal(b"some arrow bytes")
    assert len(sealed) == 16 + 32
    assert arrow_tail.open_sealed(sealed, "m.arrow").to_pybytes() == b"some arrow bytes"


@pytest.mark.parametrize("bit", range(0, 48 * 8, 5))
def test_any_flipped_bit_of_a_sealed_file_is_found(bit: int) -> None:
    sealed = bytearray(arrow_tail.seal(b"some arrow bytes"))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptDataError, match=r"m\.arrow: "):
        arrow_tail.open_sealed(bytes(sealed), "m.arrow")


@pytest.mark.parametrize("length", range(0, 48, 5))
def test_any_truncation_of_a_sealed_file_is_found(length: int) -> None:
    with pytest.raises(CorruptDataError, match=r"m\.arrow: "):
        arrow_tail.open_sealed(arrow_tail.seal(b"some arrow bytes")[:length], "m.arrow")
