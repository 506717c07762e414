"""How the tasks of a run share a machine: the number of jobs, threads per job, memory per job."""

from __future__ import annotations

import os
from pathlib import Path

from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR, dense_graph
from tickdsl.graph.costs import TRACE_BATCH_SIZE, cost
from tickdsl.graph.structure import Structure
from tickdsl.plan.model import Plan
from tickdsl.plan.study import Study

#: More workers than this only use more memory.
_MAX_JOBS = 8
#: Multiply-adds of a forward pass from which a second thread is faster.
_MIN_MACS_FOR_THREADS = 1_000_000_000
#: Multiply-adds of a forward pass from which one task keeps a GPU busy. Estimated, not measured: ResNet-20 with batch
#: size 128 (5 billion) leaves most of a large GPU idle between kernel launches, VGG-16 (40 billion) does not.
_GPU_FILLING_MACS = 10_000_000_000
#: Tasks at the same time on a GPU that a single task does not keep busy.
_JOBS_ON_GPU = 4
#: Trainings in one stacked network on a GPU, which hides the launch overhead of a single one (estimated, not measured).
_STACK_ON_GPU = 8
#: The share of the memory of a GPU that the tasks of a run divide among them; the rest is for their CUDA contexts.
_GPU_MEMORY_SHARE = 0.9


def available_cores() -> int:
    """The number of cores that this process may use."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not available on every system
        return os.cpu_count() or 1


def default_jobs(device: str, study: Study, data: Path = DEFAULT_DATA_DIR, gpus: int = 1) -> int:
    """The default number of tasks at the same time.

    At most the number of cores and the number of trainings; on each of `gpus` GPUs at most 4, or 1 if one task keeps
    it busy.
    """
    if device == "cpu":
        return max(1, min(available_cores(), study.trainings, _MAX_JOBS))
    on_each = _JOBS_ON_GPU if _forward_macs(study.plan, data) < _GPU_FILLING_MACS else 1
    cores = max(available_cores(), gpus)  # a GPU with one task needs little of a core
    return max(1, min(on_each * gpus, cores, study.trainings, max(_MAX_JOBS, gpus)))


def threads_per_job(plan: Plan, data: Path, jobs: int) -> int:
    """The number of threads of each job: an equal share of the cores, or 1 for networks with small steps.

    On a busy machine, a second thread makes small steps many times slower.
    """
    cores_per_job = max(1, available_cores() // jobs)
    return cores_per_job if cores_per_job > 1 and _forward_macs(plan, data) >= _MIN_MACS_FOR_THREADS else 1


def default_stack(device: str) -> int:
    """The default number of trainings of equal shape to stack; 1 on a CPU, where stacking was measured to be slower."""
    return 1 if device == "cpu" else _STACK_ON_GPU


def gpu_memory_share(jobs: int) -> float | None:
    """The share of the memory of a GPU that each of `jobs` tasks may use; None (no limit) for a single task."""
    return _GPU_MEMORY_SHARE / jobs if jobs > 1 else None


def _forward_macs(plan: Plan, data: Path) -> int:
    """The multiply-adds of a forward pass of one batch through the largest dense network of a plan."""
    return max(
        int(arm.recipe.get("batch", 128)) * int(cost(graph, Structure.dense(graph)).macs) // TRACE_BATCH_SIZE
        for arm in plan.arms
        for graph in [dense_graph(arm, data)]
    )
