"""Start the workers of a run on a Ray cluster, once its nodes have shown that they can run its steps."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.workers.node_check import StoreProof, device_here, needs_of
from tickdsl.engine.workers.ray_cluster import ask_for_gpu, connect
from tickdsl.engine.workers.ray_options import RayOptions
from tickdsl.engine.workers.ray_workers import RayWorkers
from tickdsl.errors import TickdslError
from tickdsl.plan.study import Study
from tickdsl.records.bucket import Bucket
from tickdsl.records.bucket_location import cached_bucket
from tickdsl.training.devices import AnyDevice, RemoteDevice


def cluster_device(options: RayOptions, device: str, announce: Callable[[str], None]) -> RemoteDevice:
    """The kind of device that the steps of a run train on; the machine of the run need not have one.

    Precision and the keys of steps follow it. Raises TickdslError if a GPU is named, which Ray chooses by itself, or if
    no node has one although `device` or the options ask for it.
    """
    if device == "cpu" or options.gpus == 0.0:
        if options.gpus:
            raise TickdslError("--gpus-per-step needs a run on GPUs, and --device is cpu", "use --device auto")
        return device_here("cpu")
    if device not in ("auto", "cuda"):
        raise TickdslError(
            f"--device {device} names a GPU of this machine, and Ray chooses the GPUs of each node", "use --device cuda"
        )
    if (own := device_here("cuda")) is not None:
        return own
    announce("connecting to the Ray cluster")
    connect(options)
    found = ask_for_gpu(announce)
    if found is None and (device == "cuda" or options.gpus):
        asked = "--device cuda" if device == "cuda" else "--gpus-per-step"
        raise TickdslError(
            f"{asked} needs a GPU, and no node of the Ray cluster has one",
            "look at `ray status`, or leave it out to train on CPUs",
        )
    return found or device_here("cpu")


def start_on_cluster(
    settings: Settings,
    options: RayOptions,
    study: Study,
    device: AnyDevice,
    jobs: int,
    announce: Callable[[str], None],
) -> RayWorkers:
    """Up to `jobs` workers on the nodes that can run the steps of a study.

    Raises TickdslError if there is no cluster, or if no node can.
    """
    bucket = cached_bucket(settings.store)
    settings = attrs.evolve(settings, device=device.type, data=settings.data.absolute(), bucket=bucket)
    kept = contextlib.ExitStack()  # until the workers are closed: nodes that join later are asked, too
    try:
        proof = kept.enter_context(_proof(settings.store) if bucket is None else _proof_in(bucket.url))
        needs = needs_of(study, settings.data, proof, device, code_allowed=settings.allow_code)
        return RayWorkers(settings, options, needs, jobs, announce, kept.close)
    except BaseException:
        kept.close()
        raise


@contextlib.contextmanager
def _proof(store: Path) -> Iterator[StoreProof]:
    """A new file in the store."""
    path = store / f".shared-{uuid.uuid4().hex}"
    path.touch()
    try:
        yield StoreProof(str(store), path.name)
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _proof_in(url: str) -> Iterator[StoreProof]:
    """A new object in a bucket."""
    bucket, name = Bucket(url), f"probes/shared-{uuid.uuid4().hex}"
    bucket.put(name, b"")
    try:
        yield StoreProof(url, name)
    finally:
        with contextlib.suppress(TickdslError):  # `gc` deletes it
            bucket.delete([name])
