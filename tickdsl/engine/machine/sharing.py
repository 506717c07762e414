"""How the tasks of a run share a machine: how many there are at a time, and what each may take."""

from __future__ import annotations

import os
from pathlib import Path

from tickdsl.engine.building import TRACED_PICTURES
from tickdsl.engine.graphs import DATA, dense_graph
from tickdsl.graph.costs import cost
from tickdsl.graph.structure import Structure
from tickdsl.plan.lower import Study
from tickdsl.plan.model import Plan

#: More workers than that only take memory from each other.
_MOST = 8
#: Multiply-adds of a forward step from which a second thread pays.
_WORTH_DIVIDING = 1_000_000_000
#: Multiply-adds of a forward step from which one task keeps a GPU busy. Counted, not measured: ResNet-20 at batch 128
#: (5 billion) leaves most of a large GPU idle between its launches, VGG-16 (40 billion) does not.
_FILLS_A_GPU = 10_000_000_000
#: Tasks at a time on a GPU that one of them does not fill.
_ON_A_GPU = 4
#: Trainings in one stacked network on a GPU: as many leave a single one's launches behind (counted, not measured).
_STACKED = 8
#: The share of a GPU's memory that the tasks of a run divide among them; the rest is for their contexts.
_OF_A_GPU = 0.9


def cores() -> int:
    """The cores that this process may use."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # only some systems tell
        return os.cpu_count() or 1


def usual_jobs(device: str, study: Study, data: Path = DATA) -> int:
    """As many tasks at a time as there are cores, where there is that much work; on a GPU few, or one that fills it."""
    most = max(1, min(cores(), study.trainings, _MOST))
    if device == "cpu":
        return most
    return min(most, _ON_A_GPU) if _forward_step(study.plan, data) < _FILLS_A_GPU else 1


def threads(plan: Plan, data: Path, jobs: int) -> int:
    """The cores divided among the jobs; one for networks whose steps are too small to divide.

    On a busy machine a second thread does not slow small steps down a little but many times over.
    """
    share = max(1, cores() // jobs)
    return share if share > 1 and _forward_step(plan, data) >= _WORTH_DIVIDING else 1


def usual_stack(device: str) -> int:
    """How many trainings of equal shape are tried as one stacked network: none on a CPU, where that was slower."""
    return 1 if device == "cpu" else _STACKED


def memory_share(jobs: int) -> float | None:
    """The share of a GPU's memory that one of so many tasks may take; None where it has no neighbours."""
    return _OF_A_GPU / jobs if jobs > 1 else None


def _forward_step(plan: Plan, data: Path) -> int:
    """The multiply-adds of one batch through the largest dense network of a plan."""
    return max(
        int(arm.recipe.get("batch", 128)) * int(cost(graph, Structure.dense(graph)).macs) // TRACED_PICTURES
        for arm in plan.arms
        for graph in [dense_graph(arm, data)]
    )
