"""Regroup: dense blocks in place of single weights (Chen et al. 2022, "Coarsening the Granularity", algorithm 2).

The filters of a convolution are the rows of a matrix with a column for every weight of a filter. Similar rows are put
together, and each part gets a block: its rows, and the columns in which it has the most weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np
import torch

from tickdsl.graph.arrays import BoolArray, IntArray
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import with_compact_masks
from tickdsl.pruning.convolution_masks import convolution_masks, folded_masks, require_masks

#: A dense block: its rows and its columns, ascending.
Block = tuple[IntArray, IntArray]


def regroup_masks(graph: ModelGraph, structure: Structure, args: Mapping[str, Any]) -> Structure:
    """The structure in which the masks of convolutions consist of dense blocks.

    `args` are the arguments of a `regroup` step: `groups`, `ratio` and `min_rows`. A convolution in which no block is
    found keeps its mask. Raises TickdslError if no convolution has a mask.
    """
    masks = convolution_masks(graph, structure)
    require_masks(masks, "regroup")
    rows = {}
    for mask in masks:
        before = mask.rows.numpy()
        blocks = find_blocks(before, args["groups"], args["ratio"], args["min_rows"])
        if blocks:
            after = np.zeros_like(before)
            for block_rows, columns in blocks:
                after[np.ix_(block_rows, columns)] = True
            rows[mask.name] = torch.from_numpy(after)
    return with_compact_masks(graph, structure, folded_masks(masks, rows))


def find_blocks(mask: BoolArray, groups: int, ratio: float, min_rows: int) -> list[Block]:
    """The dense blocks of a mask [rows, columns], one for each part of its rows; rows that are empty are in no part."""
    rows = np.flatnonzero(mask.any(axis=1))
    parts = (rows[part] for part in partition(mask[rows], groups))
    return [(part, dense_columns(mask[part], ratio)) for part in parts if len(part) > min_rows]


def dense_columns(mask: BoolArray, ratio: float) -> IntArray:
    """The columns of the block of some rows, ascending.

    Columns are added, the fullest first, until there are more of them than `ratio` times the weights that any row has
    in the other columns. The authors' code tests the i-th column there instead of the i-th fullest one.
    """
    order = np.argsort(-mask.sum(axis=0), kind="stable")
    outside = mask.sum(axis=1)[:, None] - np.cumsum(mask[:, order], axis=1)
    enough = np.arange(1, mask.shape[1] + 1) > ratio * outside.max(axis=0)
    return np.sort(order[: int(enough.argmax()) + 1])


def partition(mask: BoolArray, groups: int) -> list[IntArray]:
    """Divide the rows of a mask into parts of similar ones, whose sizes differ by at most one row.

    The authors cut a hypergraph with hMETIS, a program of its own. Here the similarity of two rows is that of Jaccard
    (the columns that both have, of those that one of them has), and the rows are halved repeatedly by the algorithm of
    Kernighan & Lin (1970) in networkx, which moves them until no exchange puts more similar rows together.
    """
    return _halved(_similarities(mask), np.arange(len(mask)), min(groups, max(1, len(mask))))


def _similarities(mask: BoolArray) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The Jaccard similarity of each two rows, 0 on the diagonal."""
    matrix = mask.astype(np.float64)  # a product of float64 is exact here, and needs no more memory than a copy
    common = matrix @ matrix.T
    sizes = np.diag(common)
    similar = common / np.maximum(sizes[:, None] + sizes[None, :] - common, 1.0)
    np.fill_diagonal(similar, 0.0)
    return similar


def _halved(similar: np.ndarray[Any, np.dtype[np.float64]], rows: IntArray, groups: int) -> list[IntArray]:
    """The rows in `groups` parts."""
    if groups <= 1:
        return [rows]
    left = groups // 2
    size = -(-len(rows) * left // groups)
    # Rows that lie apart: those of the first half are spread over all of them.
    first = set((np.arange(size) * len(rows) // size).tolist())
    network = nx.from_numpy_array(similar[np.ix_(rows, rows)])
    sides = nx.community.kernighan_lin_bisection(
        network, (first, set(range(len(rows))) - first), weight="weight", seed=0
    )
    # It names the sides in an order of its own.
    ordered = sorted((sorted(side) for side in sides), key=lambda side: (len(side) != size, side))
    halves = [rows[side] for side in ordered]
    return [*_halved(similar, halves[0], left), *_halved(similar, halves[1], groups - left)]
