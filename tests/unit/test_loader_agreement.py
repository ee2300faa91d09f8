"""Every rank deals by the same list of nodes, or every rank says why not before its first batch."""

from types import SimpleNamespace
from typing import Any

import pytest

from fastfeed.errors import ConfigError
from fastfeed.loader.agreement import Proposal, agreed_nodes, find_gather, proposed, torch_gather
from fastfeed.loader.loader import Loader
from fastfeed.loader.world import World
from tests.helpers.fake_dataset import FakeDataset
from tests.helpers.fake_reader import FakeReader
from tests.helpers.ranks import Ranks

NODES = ["a", "a", "b"]


def loader_of(ranks: Ranks, rank: int, n: int = 2000, **options: Any) -> Loader:
    arguments: dict[str, Any] = {"batch_size": 4, "shuffle": "full", "last": "short", "rank": rank,
                                 "world_size": ranks.world_size, "all_gather": ranks.gather(rank), **options}
    return Loader(FakeDataset(n), reader_factory=FakeReader, **arguments)


def rows_of(loader: Loader) -> list[int]:
    return [int(row) for batch in loader for row in batch.rows[batch.valid]]


def test_ranks_with_the_same_list_deal_every_row_once():
    ranks = Ranks(3)
    loaders = [loader_of(ranks, rank, deal="home", nodes=NODES) for rank in range(3)]
    shares = ranks.run(lambda rank: rows_of(loaders[rank]))
    assert sorted(row for share in shares for row in share) == list(range(2000))
    assert {loader.stats()["deal"]["name"] for loader in loaders} == {"home"}
    states = [loader.state_dict() for loader in loaders]
    assert states[0] == states[1] == states[2]
    assert set(states[0]["deal"]) == {"kind", "version", "nodes"}


def test_the_list_is_frozen_after_the_first_agreement():
    ranks = Ranks(2)
    loaders = [loader_of(ranks, rank, deal="home", nodes=["a", "b"]) for rank in range(2)]
    for _ in range(3):
        ranks.run(lambda rank: rows_of(loaders[rank]))
    assert ranks.gather_count == 1


def test_the_list_changes_when_a_state_is_loaded_or_nodes_are_named_on_all_ranks():
    ranks = Ranks(2)
    loaders = [loader_of(ranks, rank, deal="home", nodes=["a", "b"]) for rank in range(2)]
    ranks.run(lambda rank: rows_of(loaders[rank]))
    before = loaders[0].state_dict()["deal"]["nodes"]
    for loader in loaders:
        loader.set_nodes(["a", "c"])
    shares = ranks.run(lambda rank: rows_of(loaders[rank]))
    assert sorted(row for share in shares for row in share) == list(range(2000))
    assert loaders[0].epoch == 1
    assert loaders[0].state_dict()["deal"]["nodes"] != before
    for loader in loaders:
        loader.load_state_dict({**loader.state_dict(), "position": 1000})
    shares = ranks.run(lambda rank: rows_of(loaders[rank]))
    assert sum(map(len, shares)) == 1000
    assert ranks.gather_count == 3


@pytest.mark.parametrize(("other", "what"), [
    ({"nodes": ["a", "b", "b"]}, "list of nodes"), ({"nodes": None}, "list of nodes"), ({"seed": 1}, "seed"),
    ({"batch_size": 5}, "global batch"), ({"last": "pad"}, "last"), ({"shuffle": "window"}, "order"),
])
def test_a_rank_that_differs_fails_all_of_them_before_the_first_batch(other, what):
    ranks = Ranks(3)
    loaders = [loader_of(ranks, rank, **{"deal": "home", "nodes": NODES, **(other if rank == 1 else {})})
               for rank in range(3)]
    outcomes = ranks.run(lambda rank: next(iter(loaders[rank])))
    assert [type(outcome) for outcome in outcomes] == [ConfigError] * 3
    assert len({str(outcome) for outcome in outcomes}) == 1
    assert f"differ in their {what}" in str(outcomes[0])
    assert "ranks 0, 2: " in str(outcomes[0])
    assert "rank 1: " in str(outcomes[0])


def test_ranks_that_loaded_different_states_fail_and_keep_their_place():
    ranks = Ranks(2)
    loaders = [loader_of(ranks, rank, deal="home", nodes=["a", "b"]) for rank in range(2)]
    state = loaders[0].state_dict()
    for rank, loader in enumerate(loaders):
        loader.load_state_dict({**state, "position": 100 * rank})
    assert all("position" in str(outcome) for outcome in ranks.run(lambda rank: next(iter(loaders[rank]))))
    loaders[0].load_state_dict({**state, "position": 100})
    assert sum(map(len, ranks.run(lambda rank: rows_of(loaders[rank])))) == 1900


def test_without_a_means_to_agree_home_is_refused_and_auto_is_fixed_and_says_so():
    arguments: dict[str, Any] = {"batch_size": 4, "rank": 0, "world_size": 2}
    with pytest.raises(ConfigError, match="no means to agree"):
        Loader(FakeDataset(10), deal="home", **arguments)
    loader = Loader(FakeDataset(20000), reader_factory=FakeReader, **arguments)
    assert loader.stats()["deal"] == {"name": None, "why": "it is chosen when the iteration begins"}
    next(iter(loader))
    assert loader.stats()["deal"] == {"name": "fixed", "why": "the ranks have no means to agree on the list of nodes"}
    assert "deal" not in loader.state_dict()


@pytest.mark.parametrize(("nodes", "n", "name", "why"), [
    (["a", "b"], 2000, "home", "500 active blocks on 2 nodes"),
    (["a", "a"], 2000, "fixed", "all ranks are on one node"),
    (["a", "b"], 508, "fixed", "127 active blocks are too few to mix on two nodes"),
    (["a", "b", "c"], 600, "fixed", "150 active blocks are too few to mix on 3 nodes"),
])
def test_auto_takes_homes_where_every_node_has_blocks_enough(nodes, n, name, why):
    ranks = Ranks(len(nodes))
    loaders = [loader_of(ranks, rank, n, nodes=nodes) for rank in range(len(nodes))]
    ranks.run(lambda rank: next(iter(loaders[rank])))
    assert [loader.stats()["deal"] for loader in loaders] == [{"name": name, "why": why}] * len(nodes)


def test_one_rank_and_a_fixed_deal_ask_nobody():
    def never(text: str) -> list[str]:
        raise AssertionError

    alone = Loader(FakeDataset(2000), reader_factory=FakeReader, batch_size=4, rank=0, world_size=1, deal="home",
                   nodes=["a"], all_gather=never)
    assert next(iter(alone)).rows.shape == (4,)
    fixed = Loader(FakeDataset(2000), reader_factory=FakeReader, batch_size=4, rank=1, world_size=2, deal="fixed")
    next(iter(fixed))
    assert [loader.stats()["deal"]["why"] for loader in (alone, fixed)] == [
        "there is one rank", "deal='fixed' was asked for"]


def test_nodes_are_as_many_as_ranks():
    ranks = Ranks(3)
    with pytest.raises(ConfigError, match="nodes of 2 ranks, and there are 3"):
        loader_of(ranks, 0, nodes=["a", "b"])
    loader = loader_of(ranks, 0, nodes=NODES)
    with pytest.raises(ConfigError, match="nodes of 1 ranks"):
        loader.set_nodes(["a"])


def proposal(rank: int, **values: Any) -> Proposal:
    return Proposal(**{"rank": rank, "world_size": 2, "node": f"node-{rank}", "nodes": None, "run": {}, **values})


def test_without_a_given_list_hosts_tell_their_names():
    texts = [proposal(rank).to_text() for rank in (1, 0)]
    assert agreed_nodes(proposal(0), None, lambda text: texts) == ("node-0", "node-1")


def test_peers_of_one_rank_may_be_several_processes():
    """Tensor-parallel peers have the same rank of the data-parallel world; the first one tells its node."""
    texts = [proposal(rank, node=f"node-{number}").to_text() for number, rank in enumerate([0, 0, 1, 1])]
    assert agreed_nodes(proposal(1), None, lambda text: texts) == ("node-0", "node-2")


def test_a_rank_that_proposes_nothing_is_named():
    with pytest.raises(ConfigError, match="rank 1 of 2 proposed nothing"):
        agreed_nodes(proposal(0), None, lambda text: [text])


def test_something_that_is_no_proposal_is_refused():
    for text in ("hello", '{"rank": 0}', "[]"):
        with pytest.raises(ConfigError, match="no proposal of a loader"):
            agreed_nodes(proposal(0), None, lambda _, text=text: [text])
    for wrong in (None, "text"):
        with pytest.raises(ConfigError, match="the text of every rank"):
            agreed_nodes(proposal(0), None, lambda _, wrong=wrong: wrong)


def test_many_ranks_that_differ_are_not_all_listed():
    texts = [proposal(rank, world_size=100, run={"seed": int(rank == 7)}).to_text() for rank in range(100)]
    with pytest.raises(ConfigError, match="ranks 0, 1, 2, 3 and 95 more: 0; rank 7: 1"):
        agreed_nodes(Proposal.from_text(texts[0]), None, lambda text: texts)


def test_slurm_says_what_the_node_is_called():
    world = World(0, 1, "arguments")
    assert proposed(world, {"SLURMD_NODENAME": "n17"}, None, {}).node == "n17"
    assert proposed(world, {}, None, {}).node


def test_torch_distributed_gathers_only_where_its_ranks_are_the_worlds():
    def gather_object(into: list[Any], text: str, group: Any) -> None:
        into[:] = [text, "other"]

    group = SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True, get_rank=lambda: 0,
                            get_world_size=lambda group=None: 2, all_gather_object=gather_object)
    modules = {"torch.distributed": group}
    gather = find_gather(None, World(0, 2, "torch.distributed"), modules)
    assert gather is not None
    assert gather("ours") == ["ours", "other"] == torch_gather(group, "ours")
    assert find_gather(None, World(0, 4, "arguments"), modules) is None
    assert find_gather(None, World(1, 2, "arguments"), modules) is None
    assert find_gather(None, World(0, 2, "RANK"), {}) is None
