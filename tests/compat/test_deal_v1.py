"""Deal version 1 for ever: the vectors of docs/deal.md, section 5, against the core and against the oracle."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fastfeed._native.deal import DEAL_VERSION, Homes, deal_to_homes, node_key
from tests.helpers import deal_oracle

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "deal.md"
KEYS, BLOCKS, HOMES, DEALS = (
    block.strip("\n").splitlines()
    for block in re.findall(r"```text\n(.*?)```", DOCUMENT.read_text(encoding="utf-8").split("## 5. Vectors")[1], re.S)
)
NODES = [f"gpu-{i}" for i in range(8)]


def numbers(text: str) -> list[int]:
    return [int(number, 0) for number in text.split()]


def test_the_version_is_one() -> None:
    assert DEAL_VERSION == deal_oracle.DEAL_VERSION == 1
    assert (len(KEYS), len(BLOCKS), len(HOMES), len(DEALS)) == (6, 4, 3, 4)


@pytest.mark.parametrize("line", KEYS)
def test_a_nodes_key_is_as_published(line: str) -> None:
    name, key = re.fullmatch(r'"(.*)" (0x[0-9a-f]{16})', line).groups()  # type: ignore[union-attr]
    assert node_key(name) == deal_oracle.node_key(name) == int(key, 16)


@pytest.mark.parametrize("line", BLOCKS)
def test_a_blocks_key_is_as_published(line: str) -> None:
    dataset_key, block, key = numbers(line)
    assert deal_oracle.block_key(dataset_key, block) == key


@pytest.mark.parametrize("line", HOMES)
def test_homes_are_as_published(line: str) -> None:
    (dataset_key, first), homes = (numbers(part) for part in line.split("|"))
    blocks = np.arange(first, first + 16)
    assert Homes(NODES, [(dataset_key, 1)]).of_rows(blocks).tolist() == homes
    assert Homes(NODES, [(dataset_key, 10)]).of_rows(blocks * 10 + 9).tolist() == homes
    assert [deal_oracle.home(NODES, dataset_key, int(block)) for block in blocks] == homes


@pytest.mark.parametrize("line", DEALS)
def test_a_deal_is_as_published(line: str) -> None:
    node_of_rank, homes = (numbers(part) for part in line.split("|")[:2])
    shares = [numbers(share) for share in line.split("|")[2].split("/")]
    dealt = deal_to_homes(np.array(homes, np.int32), np.array(node_of_rank, np.int32), max(node_of_rank) + 1)
    assert dealt.tolist() == [sample for share in shares for sample in share]
    assert deal_oracle.deal(homes, node_of_rank) == shares
