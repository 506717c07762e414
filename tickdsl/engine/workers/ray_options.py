"""Which workers run the steps of a run, as `--workers` and its companions say. Loads neither torch nor Ray."""

from __future__ import annotations

import importlib.util
from typing import Literal

import attrs

from tickdsl.errors import TickdslError


@attrs.frozen
class RayOptions:
    """Workers on the nodes of a Ray cluster.

    address: `host:port` of the cluster, or `auto`; None: the cluster of this machine, or a new one on this machine.
    gpus, cpus: what each step gets of a node; shares of a GPU are allowed. `gpus` None: a whole GPU where the run
    trains on GPUs, else none.
    """

    address: str | None = None
    gpus: float | None = None
    cpus: float = 1.0


def parse_workers(text: str) -> RayOptions | Literal["slurm"] | None:
    """`local` (None: processes of this machine), `ray`, `ray:ADDRESS` or `slurm`. Raises ValueError for others."""
    if text == "local":
        return None
    if text == "slurm":
        return "slurm"
    kind, separator, address = text.partition(":")
    if kind != "ray" or (separator and not address):
        raise ValueError(f"{text!r} names no workers: use local, ray, ray:ADDRESS or slurm")
    if "://" in address:
        raise ValueError(
            f"{text!r}: a run cannot reach a cluster from outside; start it on one of its nodes, with ray:HOST:PORT"
        )
    return RayOptions(address or None)


def ray_options(
    workers: RayOptions | None, gpus: float | None, cpus: float | None, gpus_per_training: int = 1
) -> RayOptions | None:
    """`--workers` together with `--gpus-per-step` and `--cpus-per-step`.

    Raises TickdslError if these would have no effect, or if a step would get another number of GPUs than one.
    """
    if workers is None:
        for name, value in (("--gpus-per-step", gpus), ("--cpus-per-step", cpus)):
            if value is not None:
                raise TickdslError(f"{name} has no effect on the processes of this machine", "add --workers ray")
        return None
    if gpus_per_training > 1:
        raise TickdslError(
            "--gpus-per-training cannot be combined with --workers ray: a step of Ray has one GPU",
            f"use --workers slurm, or start `tickdsl worker --gpus-per-training {gpus_per_training}` on each node",
        )
    if gpus is not None and gpus > 1:
        raise TickdslError(f"--gpus-per-step {gpus:g}: a step trains on one GPU", "use 1, or a part such as 0.5")
    return attrs.evolve(workers, gpus=gpus, cpus=1.0 if cpus is None else cpus)


def require_ray(workers: RayOptions | None) -> None:
    """Raise TickdslError if workers of Ray are asked for, which is not installed; does not load it."""
    if workers is not None and importlib.util.find_spec("ray") is None:
        raise TickdslError("--workers ray needs Ray, which is not installed", 'run `pip install "tickdsl[ray]"`')
