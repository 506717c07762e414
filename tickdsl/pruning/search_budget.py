"""What a search of amounts evaluates, before its results are known: how often, and which layers alone. Needs no torch.

Every layer loses some shares alone: the rungs. Which ones depends on the layers and on the number of evaluations, not
on how much the prune removes, so that searches with other targets have them in common. More evaluations add rungs and
leave those of fewer as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.plurals import plural
from tickdsl.pruning.amounts import round_half_up
from tickdsl.pruning.removal_order import Cell, layers_to_remove, unranked_order
from tickdsl.pruning.scope import LAYERS, Pool, find_scope

#: The shares of a layer that are removed alone, in the order in which evaluations are spent on them.
RUNGS = (1 / 2, 3 / 4, 1 / 4, 7 / 8, 5 / 8, 3 / 8, 15 / 16, 1 / 8)
#: By default, so many rungs, and so many evaluations of whole candidates.
DEFAULT_RUNGS, DEFAULT_CANDIDATES = 4, 16
#: At least this share of the evaluations is for whole candidates.
CANDIDATE_SHARE = 0.2


def searched_parts(
    graph: ModelGraph, structure: Structure, args: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names of the parts of a search, and how many entries each can lose, for a prune with these arguments.

    Parts are layers, or coupled layers together. Raises TickdslError if nothing is in scope.
    """
    if args["unit"] in LAYERS:
        layers = layers_to_remove(graph, structure, args)
        return tuple(block.name for block in layers), (1,) * len(layers)
    pools = find_scope(graph, structure, args).pools
    if args["unit"] == "weights":
        return tuple(pool.name for pool in pools), tuple(pool.remaining - pool.minimum for pool in pools)
    cells = unranked_order(graph, structure, args).cells
    return names_of_cells(cells, pools), tuple(len(cell.entries) for cell in cells)


def names_of_cells(cells: Sequence[Cell], pools: Sequence[Pool]) -> tuple[str, ...]:
    """The names of the pools that cells belong to; the second cell of a pool and further ones have a number."""
    seen: dict[int, int] = {}
    names = []
    for cell in cells:
        seen[cell.pool] = seen.get(cell.pool, 0) + 1
        name = pools[cell.pool].name
        names.append(name if seen[cell.pool] == 1 else f"{name}#{seen[cell.pool]}")
    return tuple(names)


def evaluations_of(sizes: Sequence[int], requested: int | None) -> int:
    """How many evaluations a search makes at most; `requested`: as many as the plan says."""
    if requested is not None:
        return requested
    return 1 + len(rungs(sizes, DEFAULT_RUNGS * len(sizes))) + DEFAULT_CANDIDATES


def fewest_evaluations(sizes: Sequence[int]) -> int:
    """The fewest evaluations with which a search makes sense: the network itself, each part alone, two candidates."""
    return 1 + sum(size > 0 for size in sizes) + 2


def too_few(sizes: Sequence[int], requested: int | None) -> str | None:
    """Why so many evaluations are too few for a search; None if they are not."""
    needed = fewest_evaluations(sizes)
    if requested is None or requested >= needed:
        return None
    return (
        f"{plural(requested, 'evaluation')} cannot tell {plural(len(sizes), 'layer')} apart: a search needs {needed} "
        "here, one for each and three more"
    )


def probes(sizes: Sequence[int], evaluations: int) -> list[tuple[int, int]]:
    """Which part loses how many entries alone, for a search of so many evaluations."""
    parts = sum(size > 0 for size in sizes)
    candidates = max(2, int(CANDIDATE_SHARE * evaluations))
    return rungs(sizes, max(parts, evaluations - 1 - candidates))


def rungs(sizes: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """The first rungs of all parts, at most `limit`: (part, number of entries), each once."""
    found: dict[tuple[int, int], None] = {}
    for share in RUNGS:
        for part, size in enumerate(sizes):
            if size and len(found) < limit:
                found.setdefault((part, max(1, round_half_up(share * size))))
    return list(found)
