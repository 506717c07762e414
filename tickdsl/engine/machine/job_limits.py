"""How the tasks of a run share a machine: how many there are at a time, and what each may take."""

from __future__ import annotations

import os
from pathlib import Path

from tickdsl.engine.building import TRACE_BATCH_SIZE
from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR, dense_graph
from tickdsl.graph.costs import cost
from tickdsl.graph.structure import Structure
from tickdsl.plan.model import Plan
from tickdsl.plan.study import Study

#: More workers than that only take memory from each other.
_MAX_JOBS = 8
#: Multiply-adds of a forward step from which a second thread pays.
_MIN_MACS_FOR_THREADS = 1_000_000_000
#: Multiply-adds of a forward step from which one task keeps a GPU busy. Counted, not measured: ResNet-20 at batch 128
#: (5 billion) leaves most of a large GPU idle between its launches, VGG-16 (40 billion) does not.
_GPU_FILLING_MACS = 10_000_000_000
#: Tasks at a time on a GPU that one of them does not fill.
_JOBS_ON_GPU = 4
#: Trainings in one stacked network on a GPU: as many leave a single one's launches behind (counted, not measured).
_STACK_ON_GPU = 8
#: The share of a GPU's memory that the tasks of a run divide among them; the rest is for their contexts.
_GPU_MEMORY_SHARE = 0.9


def available_cores() -> int:
    """The cores that this process may use."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # only some systems tell
        return os.cpu_count() or 1


def default_jobs(device: str, study: Study, data: Path = DEFAULT_DATA_DIR) -> int:
    """As many tasks at a time as there are cores, where there is that much work; on a GPU few, or one that fills it."""
    limit = max(1, min(available_cores(), study.trainings, _MAX_JOBS))
    if device == "cpu":
        return limit
    return min(limit, _JOBS_ON_GPU) if _forward_macs(study.plan, data) < _GPU_FILLING_MACS else 1


def threads(plan: Plan, data: Path, jobs: int) -> int:
    """The cores divided among the jobs; one for networks whose steps are too small to divide.

    On a busy machine a second thread does not slow small steps down a little but many times over.
    """
    cores_per_job = max(1, available_cores() // jobs)
    return cores_per_job if cores_per_job > 1 and _forward_macs(plan, data) >= _MIN_MACS_FOR_THREADS else 1


def default_stack(device: str) -> int:
    """How many trainings of equal shape are tried as one stacked network: none on a CPU, where that was slower."""
    return 1 if device == "cpu" else _STACK_ON_GPU


def gpu_memory_share(jobs: int) -> float | None:
    """The share of a GPU's memory that one of so many tasks may take; None where it has no neighbours."""
    return _GPU_MEMORY_SHARE / jobs if jobs > 1 else None


def _forward_macs(plan: Plan, data: Path) -> int:
    """The multiply-adds of one batch through the largest dense network of a plan."""
    return max(
        int(arm.recipe.get("batch", 128)) * int(cost(graph, Structure.dense(graph)).macs) // TRACE_BATCH_SIZE
        for arm in plan.arms
        for graph in [dense_graph(arm, data)]
    )
