"""Order version 2 for ever: the vectors of docs/order.md, section 6, against the core and against the oracle."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fastfeed._native.order import keyed_permutation
from fastfeed.order import ORDER_VERSION, Order
from tests.helpers import order_oracle

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "order.md"


def vectors() -> tuple[list[str], list[str], list[str]]:
    """Lines of keys, permutations and orders."""
    section = DOCUMENT.read_text(encoding="utf-8").split("## 6. Vectors")[1]
    blocks = re.findall(r"```text\n(.*?)```", section, re.S)
    keys, permutations, orders = (block.strip().splitlines() for block in blocks)
    return keys, permutations, orders


KEYS, PERMUTATIONS, ORDERS = vectors()


def pairs(text: str) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in (item.split(":") for item in text.split())]


def test_the_version_is_two() -> None:
    assert ORDER_VERSION == order_oracle.ORDER_VERSION == 2
    assert (len(KEYS), len(PERMUTATIONS), len(ORDERS)) == (4, 9, 12)


@pytest.mark.parametrize("line", KEYS)
def test_a_key_is_as_published(line: str) -> None:
    name, arguments, value = re.fullmatch(r"(\w+)\((.*)\) = (0x[0-9a-f]{16})", line).groups()  # type: ignore[union-attr]
    numbers = [int(argument.split("=")[-1], 0) for argument in arguments.split(", ")]
    assert getattr(order_oracle, name)(*numbers) == int(value, 16)


@pytest.mark.parametrize("line", PERMUTATIONS)
def test_a_permutation_is_as_published(line: str) -> None:
    head, tail = line.split(" | ")
    m, key = (int(number, 0) for number in head.split())
    places, images = np.array(pairs(tail)).T
    assert keyed_permutation(m, key, places).tolist() == images.tolist()
    assert keyed_permutation(m, key, images, inverse=True).tolist() == places.tolist()
    assert [order_oracle.permute(m, key, int(place)) for place in places] == images.tolist()


@pytest.mark.parametrize("line", ORDERS)
def test_an_order_is_as_published(line: str) -> None:
    head, tail = line.split(" | ")
    n, seed, epoch, shuffle, window, block_rows = head.split()
    options = (int(n), int(seed), int(epoch), shuffle, int(window), int(block_rows))
    order, oracle = Order(*options), order_oracle.OracleOrder(*options)  # type: ignore[arg-type]
    positions, rows = np.array(pairs(tail)).T
    assert order.rows_at(positions).tolist() == rows.tolist()
    assert order.positions_of(rows).tolist() == positions.tolist()
    assert [order[int(p)] for p in positions] == [oracle.row(int(p)) for p in positions] == rows.tolist()
    assert [oracle.position(int(row)) for row in rows] == positions.tolist()
