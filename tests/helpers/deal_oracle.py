"""The deal written once more from docs/deal.md, in plain Python: slow, obvious, independent of csrc."""

from __future__ import annotations

from collections.abc import Sequence

from tests.helpers.order_oracle import MASK32, derive

DEAL_VERSION = 1


def node_key(name: str) -> int:
    data = name.encode()
    key = derive(DEAL_VERSION, len(data))
    for start in range(0, len(data), 8):
        key = derive(key, int.from_bytes(data[start:start + 8], "little"))
    return key


def block_key(dataset_key: int, block: int) -> int:
    return derive(dataset_key, block)


def score(block: int, node: int) -> int:
    z = ((block & MASK32) + (node & MASK32)) * 0x7FEB352D & MASK32
    z ^= z >> 16
    z = (z + (block >> 32 ^ node >> 32)) * 0x846CA68B & MASK32
    z ^= z >> 15
    return z * 0x7FEB352D & MASK32


def home(names: Sequence[str], dataset_key: int, block: int) -> int:
    """The number, in `names`, of the block's home: the highest score, the first of equals."""
    scores = [score(block_key(dataset_key, block), node_key(name)) for name in names]
    return scores.index(max(scores))


def deal(homes: Sequence[int], node_of_rank: Sequence[int]) -> list[list[int]]:
    """The samples of each rank, ascending."""
    m, ranks = len(homes), len(node_of_rank)
    share = [(rank + 1) * m // ranks - rank * m // ranks for rank in range(ranks)]
    nodes = sorted(set(node_of_rank))
    free = {node: sum(share[rank] for rank in range(ranks) if node_of_rank[rank] == node) for node in nodes}
    of_node: dict[int, list[int]] = {node: [] for node in nodes}
    guests = []
    for sample, at in enumerate(homes):
        if free.get(at, 0) > 0:
            free[at] -= 1
            of_node[at].append(sample)
        else:
            guests.append(sample)
    for sample in guests:
        node = next(node for node in nodes if free[node] > 0)
        free[node] -= 1
        of_node[node].append(sample)
    dealt: list[list[int]] = []
    waiting = {node: sorted(samples) for node, samples in of_node.items()}
    for rank in range(ranks):
        own = waiting[node_of_rank[rank]]
        dealt.append(own[:share[rank]])
        del own[:share[rank]]
    return dealt
