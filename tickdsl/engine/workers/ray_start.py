"""Start the workers of a run on a Ray cluster, once its nodes have shown that they can run its steps."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.workers.node_check import needs_of
from tickdsl.engine.workers.ray_options import RayOptions
from tickdsl.engine.workers.ray_workers import RayWorkers
from tickdsl.errors import TickdslError
from tickdsl.plan.study import Study
from tickdsl.training.device_choice import Device


def require_one_device(options: RayOptions, devices: Sequence[Device]) -> None:
    """Raise TickdslError if a device was chosen that a cluster chooses by itself, or GPUs that this machine lacks.

    Precision and the keys of steps follow the device of the machine of the run.
    """
    device = devices[0]
    if device.index is not None and len(devices) == 1:
        raise TickdslError(
            f"--device {device} names a GPU of this machine, and Ray chooses the GPUs of each node", "use --device cuda"
        )
    if options.gpus and device.type != "cuda":
        raise TickdslError(
            "--gpus-per-step needs a run on GPUs, but this machine trains on its CPU",
            "start the run on a node of the cluster that has a GPU, or leave out --gpus-per-step",
        )


def start_on_cluster(
    settings: Settings, options: RayOptions, study: Study, jobs: int, announce: Callable[[str], None]
) -> RayWorkers:
    """Up to `jobs` workers on the nodes that can run the steps of a study.

    Raises TickdslError if there is no cluster, or if no node can.
    """
    kind = settings.device.partition(":")[0]
    settings = attrs.evolve(settings, device=kind, data=settings.data.absolute())
    with _proof(settings.store) as proof:
        needs = needs_of(study, settings.data, proof, kind, code_allowed=settings.allow_code)
        return RayWorkers(settings, options, needs, jobs, announce)


@contextlib.contextmanager
def _proof(store: Path) -> Iterator[Path]:
    """A new file in the store: who sees it shares the store."""
    path = store / f".shared-{uuid.uuid4().hex}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
