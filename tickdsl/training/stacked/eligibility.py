"""Which trainings can be done as one stacked network, and whether that pays."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor, nn

from tickdsl.training import autotune as measured
from tickdsl.training.autotune import Choices, Remembered
from tickdsl.training.data.batches import Material, Reading
from tickdsl.training.devices import autocast_type
from tickdsl.training.job import Assignment
from tickdsl.training.loop import own_randomness
from tickdsl.training.stacked.network import StackedNetwork
from tickdsl.training.stacked.training import StackedStep
from tickdsl.training.step.cuda_graphs import WARM_UP
from tickdsl.training.training_run import Course

#: Pictures that the networks are compared on.
_PICTURES = 16
#: How far the stacked networks' scores and statistics may lie from the single ones', as a share of their size:
#: rounding, also that of bf16, lies closer, and a network that mixes its members does not.
_ALIKE = 0.05
#: Steps on a GPU between two waits for it.
TURNS = 8


def why_not(given: Sequence[Assignment], choices: Choices, device: torch.device) -> str | None:
    """What stands against training these together; None where nothing does. Their networks are left as they are."""
    first = given[0]
    for same, what in (
        (lambda one: one.recipe, "their recipes differ"),
        (lambda one: one.data.fingerprint, "their data differ"),
        (lambda one: (one.start, one.stop), "they begin or end at different steps"),
        (lambda one: one.layout, "their memory layouts differ"),
        (lambda one: _shapes(one.model), "their networks differ in shape"),
    ):  # type: tuple[Callable[[Assignment], object], str]
        if any(same(one) != same(first) for one in given):
            return what
    if any(one.lesson is not None for one in given):
        return "they learn from a teacher"
    if any(one.compiles for one in given):
        return "torch compiles their networks"
    material = Material(first.data, first.recipe, device)
    if any(Course(one, material, device).sparse_layers(choices) for one in given):
        return "layers of theirs are trained sparsely"
    return _not_alike([one.model for one in given], material, autocast_type(first.recipe.precision, device))


def _shapes(network: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in network.state_dict().items()}


def _not_alike(networks: Sequence[nn.Module], material: Material, autocast: torch.dtype | None) -> str | None:
    """What becomes apparent when the networks are really stacked, and compute the same pictures as each alone."""
    pictures = material.normalise(material.images[:_PICTURES])
    alone, together = ([copy.deepcopy(network).train() for network in networks] for _ in range(2))
    precision = torch.autocast(pictures.device.type, dtype=autocast, enabled=autocast is not None)
    with own_randomness(pictures.device), torch.no_grad(), precision:
        try:
            whole = StackedNetwork(together)
            with torch.enable_grad():
                trained = whole(torch.stack([pictures] * len(networks), 1))
                torch.autograd.backward(trained.float().sum())
            scores = [trained.detach(), whole.eval()(pictures)]
        except Exception as error:  # whatever a network's own code makes of stacked tensors
            words = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return f"torch cannot stack their networks: {words}"
        expected = [torch.stack([network(pictures) for network in alone], 1)]
        expected += [torch.stack([network.eval()(pictures) for network in alone], 1)]
    states = [
        pair
        for one, other in zip(alone, together, strict=True)
        for pair in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    ]
    if all(_alike(one, other) for one, other in [*zip(expected, scores, strict=True), *states]):
        return None
    return "stacked, their networks compute something else"


def _alike(one: Tensor, other: Tensor) -> bool:
    apart = (one.double() - other.double()).norm()
    return bool(apart <= _ALIKE * one.double().norm())


def times_faster(given: Sequence[Assignment], device: torch.device) -> float:
    """How many times faster a stacked optimiser step is than one of each training alone; 0 where it cannot be taken,
    for want of memory or of an operator.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else None
    try:
        with own_randomness(device):
            return len(given) * measured.times_faster(trial(given, device), trial(given[:1], device), threads)
    except RuntimeError:
        return 0.0
    finally:
        if device.type == "cuda":
            gc.collect()  # captured steps refer to themselves, and hold memory of the device


def trial(given: Sequence[Assignment], device: torch.device) -> Callable[[], None]:
    """What takes optimiser steps with copies of the networks, stacked where there are several; it waits for the device.

    On a CPU one step at a time, on CUDA `TURNS`, as captured there.
    """
    first = given[0]
    material = Material(first.data, first.recipe, device)
    courses = [
        Course(attrs.evolve(one, model=copy.deepcopy(one.model), checkpoint=None), material, device) for one in given
    ]
    for course in courses:
        course.lay_out(None)
    step = StackedStep(courses) if len(courses) > 1 else courses[0].prepare(Remembered(), None, None)
    reading = Reading(material, [course.given.seed for course in courses])
    turns = TURNS if device.type == "cuda" else 1

    def turn() -> None:
        with courses[0].settings():
            for _ in range(turns):
                batch = reading.batch(0)
                step.take(batch.pictures, batch.answers, None, rate=1e-6, momentum=None, seed=0)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(WARM_UP + 1 if device.type == "cuda" else 0):
        turn()
    return turn
