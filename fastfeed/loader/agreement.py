"""The job's list of nodes, and that every rank has the same one before its first batch.

A deal by homes is computed by each rank for itself. Two ranks with different lists, or at different places of the run,
would lose samples and train on others twice without a sign of it. So every rank proposes what it would go by, all
proposals are gathered, and each rank checks them all: either every rank goes on with the same list, or every rank
raises the same error. What gathers is torch.distributed where it is initialised, or a function that the user gives;
without either there is no agreement, and so no deal by homes.

Pure but for `torch_gather`, which is a collective: every process of the group has to call it.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from fastfeed.errors import ConfigError
from fastfeed.loader.home_deal import nodes_digest
from fastfeed.loader.world import World

# What each process gave, in any order.
Gather: TypeAlias = Callable[[str], Sequence[str]]
# An error names so many ranks; more would not help.
RANKS_NAMED_MAX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What one rank would go by. nodes: the digest of the list that was given to it, None where none was. run: what
    decides the steps and where they begin, by name."""

    rank: int
    world_size: int
    node: str
    nodes: str | None
    run: Mapping[str, Any]

    def to_text(self) -> str:
        """About 1 KB of JSON: it crosses the network once for each pair of ranks."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_text(text: str) -> Proposal:
        """ConfigError where `text` is no proposal: the processes run different versions, or gather something else."""
        try:
            return Proposal(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"a rank proposed {str(text)[:80]!r}, which is no proposal of a loader of this "
                              "version. All ranks have to begin the same loader at the same time, and all_gather= has "
                              "to return the text of every rank.") from error


def agreed_nodes(ours: Proposal, given: Sequence[str] | None, gather: Gather) -> tuple[str, ...]:
    """The node of each rank, the same on all ranks. ConfigError, on all of them, where they do not agree."""
    texts = gather(ours.to_text())
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise ConfigError(f"all_gather= returned {type(texts).__name__}: it has to return a list with the text of "
                          "every rank, as mpi4py's comm.allgather does.")
    proposals = [Proposal.from_text(text) for text in texts]
    by_rank = {proposal.rank: proposal for proposal in reversed(proposals)}
    sizes = {proposal.rank: proposal.world_size for proposal in proposals}
    _check_same("world size", sizes)
    if missing := [rank for rank in range(ours.world_size) if rank not in by_rank]:
        raise ConfigError(f"deal='home': {_named(missing)} of {ours.world_size} proposed nothing. All ranks have to "
                          "make the loader and begin to iterate together; or use deal='fixed'.")
    _check_same("list of nodes (nodes=)", {proposal.rank: proposal.nodes for proposal in proposals})
    for name in ours.run:
        _check_same(name, {proposal.rank: proposal.run.get(name) for proposal in proposals})
    if given is not None:
        return tuple(given)
    return tuple(by_rank[rank].node for rank in range(ours.world_size))


def _check_same(what: str, values: Mapping[int, Any]) -> None:
    """`values` by rank."""
    ranks_of: dict[str, list[int]] = {}
    for rank in sorted(values):
        ranks_of.setdefault(json.dumps(values[rank]), []).append(rank)
    if len(ranks_of) > 1:
        told = "; ".join(f"{_named(ranks)}: {value}" for value, ranks in sorted(ranks_of.items()))
        raise ConfigError(f"the ranks differ in their {what}, so they would lose samples: {told}. Give all ranks "
                          "the same options and the same state, or use deal='fixed'.")


def _named(ranks: Sequence[int]) -> str:
    shown = ", ".join(map(str, ranks[:RANKS_NAMED_MAX]))
    more = f" and {len(ranks) - RANKS_NAMED_MAX} more" if len(ranks) > RANKS_NAMED_MAX else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {shown}{more}"


def proposed(world: World, environ: Mapping[str, str], given: Sequence[str] | None, run: Mapping[str, Any]) -> Proposal:
    """What this rank proposes. A node is what Slurm calls it, else the name of the host."""
    return Proposal(rank=world.rank, world_size=world.size, node=environ.get("SLURMD_NODENAME") or socket.gethostname(),
                    nodes=None if given is None else nodes_digest(given), run=run)


def find_gather(given: Gather | None, world: World, modules: Mapping[str, Any]) -> Gather | None:
    """What gathers the proposals: the user's, else torch.distributed's default group if its ranks are this world's."""
    if given is not None:
        return given
    distributed = modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    if (distributed.get_rank(), distributed.get_world_size()) != (world.rank, world.size):
        return None
    return lambda text: torch_gather(distributed, text)


def torch_gather(distributed: Any, text: str, group: Any = None) -> list[str]:
    """What every process of `group` (None: the default one) gave. A collective."""
    texts: list[Any] = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(texts, text, group=group)
    return texts
