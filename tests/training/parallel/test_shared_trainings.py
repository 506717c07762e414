"""Trainings by several processes end where one process ends, up to the order of sums.

Networks compute in float64, so that nothing but the order of sums can hide a difference.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from rank_processes import run_on_ranks
from shared_trainings import RECIPE, Precise, assert_alike, half_of, images, job, outcome, small_cnn
from torch import Tensor
from torch.nn import functional as F
from vision_data import SEGMENT, TAG

from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact, compact_masks
from tickdsl.graph.tracing.trace import trace
from tickdsl.training import models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.job import TrainingJob
from tickdsl.training.parallel.ranks import OutOfStepError, Ranks
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.sparsifiers.evolving import Evolution
from tickdsl.training.sparsifiers.gradual import GradualPruning
from tickdsl.training.step.distillation import Distillation
from tickdsl.training.tasks.classify import Classify

pytestmark = pytest.mark.slow


class Contrasting(Classify):
    """A loss that is no mean over samples: it depends on what else is in the batch."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs - outputs.mean(0) + outputs.var(0).log1p(), targets)


def masked(recipe: Recipe = RECIPE, **more: Any) -> TrainingJob:
    model = small_cnn()
    return job(recipe, model=model, masks=half_of(model), **more)


def compacted() -> TrainingJob:
    """A residual network without some filters and a whole block, and with masks on what is left."""
    dense = models.create("resnet20", classes=3, shape=(1, 8, 8), seed=0, options={"width": 0.25})
    graph = trace(dense, (torch.zeros(2, 1, 8, 8),))
    structure = Structure.dense(graph).remove_block(graph.layers[-1].name)
    free = [group for group in graph.channels if not group.reason and group.size > 2]
    for group in free[:4]:
        structure = structure.remove(group.name, np.arange(1, group.size, 2))
    draw = np.random.default_rng(0)
    masked = {name: draw.random(graph.parameters[name]) < 0.7 for name in list(graph.weights)[:3]}
    structure = structure.with_masks(masked)
    network = compact(dense, graph, structure)
    assert sum(p.numel() for p in network.parameters()) < 0.9 * sum(p.numel() for p in dense.parameters())
    masks = {f"network.{name}": mask for name, mask in compact_masks(graph, structure).items()}
    assert masks and not all(bool(mask.all()) for mask in masks.values())
    return job(model=Precise(network), masks=masks)


def with_validation() -> TrainingJob:
    data = datasets.load(
        "synthetic", options={"size": 8, "channels": 1, "train": 38, "test": 15, "classes": 3, "validation": 0.2}
    )
    return job(attrs.evolve(RECIPE, length="2ep", patience="1ep"), data, measure_every=3)


def language(*, ignored: bool = False) -> TrainingJob:
    data = datasets.load("corpus", options={"length": 8, "train": 30, "test": 10})
    if ignored:  # all of most samples, so that some process has none that counts
        targets = data.train_targets.long()
        targets[torch.arange(len(targets)) % 2 > 0] = -100
        data = attrs.evolve(data, train_targets=targets)
    model = models.create(
        "gpt", classes=data.classes, shape=data.shape, seed=0, options={"layers": 1, "heads": 2, "dim": 8}
    )
    return job(attrs.evolve(RECIPE, optimizer="adam", lr=0.01), data, Precise(model))


def segmenting(**more: Any) -> TrainingJob:
    network = Precise(SEGMENT.network(), rounded="class_weights" in more)
    return job(attrs.evolve(RECIPE, augment=("crop",), **more), SEGMENT.dataset(train=26, test=6), network)


#: Trainings by what they have in common with others; each in a process of its own makes its own.
CASES: Mapping[str, Callable[[], TrainingJob]] = {
    "batch norm and masks": masked,
    "a compact network and masks": compacted,
    "augmented, mixed, in micro-batches": lambda: job(
        attrs.evolve(RECIPE, augment=("crop", "flip"), mixup=0.4, accumulate=3)
    ),
    "adam, clipped, averaged, weighted classes": lambda: job(
        attrs.evolve(
            RECIPE, optimizer="adam", lr=0.01, clip=0.5, ema=0.9, class_weights="balanced", label_smoothing=0.1,
            bn_l1=1e-3, accumulate=2,
        ),
        model=small_cnn(rounded=True),
    ),
    "weights that leave and enter": lambda: masked(sparsifier=Evolution(0.3, 1, 4)),
    "gradual pruning": lambda: job(
        sparsifier=GradualPruning(("network.fc.weight",), {1: [20], 3: [10]}, by="movement")
    ),
    "a teacher": lambda: job(distillation=Distillation(small_cnn(5), 4.0, 0.7, until=2)),
    "validation and patience": with_validation,
    "masks of images": segmenting,
    "masks of images, by overlap": lambda: segmenting(loss="dice"),
    "masks of images, weighted, in micro-batches": lambda: segmenting(class_weights="balanced", accumulate=2),
    "labels": lambda: job(RECIPE, TAG.dataset(train=26, test=6), Precise(TAG.network())),
    "tokens": language,
    "tokens that do not count": lambda: language(ignored=True),
    "a loss of whole batches": lambda: job(data=attrs.evolve(images(), task=Contrasting())),
    "a loss of whole batches with a teacher, in micro-batches": lambda: job(
        attrs.evolve(RECIPE, accumulate=2), attrs.evolve(images(), task=Contrasting()),
        distillation=Distillation(small_cnn(5), 4.0, 0.7),
    ),
}  # fmt: skip
#: The loss of these is computed in float32.
ROUNDED = ("weighted", "overlap")
#: Trainings whose networks draw random numbers: each process has draws of its own.
DRAWING = {"generate": ("dcgan", {"width": 0.25, "latent": 4}), "vae": ("conv-vae", {"width": 0.25, "latent": 4})}


def drawing(name: str) -> TrainingJob:
    model, options = DRAWING[name]
    data = datasets.load("digits", options={"samples": 40})
    data = data.for_task(next(task for key, task in _tasks().items() if key == name))
    recipe = attrs.evolve(RECIPE, optimizer="adam", lr=0.003)
    return job(recipe, data, models.create(model, classes=data.classes, shape=data.shape, seed=0, options=options))


def _tasks() -> Mapping[str, Any]:
    from tickdsl.training.tasks import TASKS
    from tickdsl.training.tasks.generate import Generate

    return {**TASKS, "generate": Generate(lambda images: images.flatten(1)[:, ::97].double())}


def all_cases(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """The outcomes of all cases in one of the processes, and of a training that goes on from a checkpoint of one."""
    found: dict[str, Any] = {name: outcome(make(), ranks) for name, make in CASES.items()}
    if ranks.size == 2:
        found.update({name: [outcome(drawing(name), ranks) for _ in range(2)] for name in DRAWING})
        interrupted(ranks, folder / "of two", 3)
    found["resumed"] = outcome(masked(**saved_by_first(ranks, folder / "of one")), ranks)
    return found


def saved_by_first(ranks: Ranks | None, folder: Path) -> dict[str, Checkpointer]:
    """The checkpointer of a training, which process 0 alone has."""
    return {} if ranks is not None and ranks.rank else {"checkpoint": Checkpointer(folder, every_seconds=1e9)}


def interrupted(ranks: Ranks | None, folder: Path, after: int) -> None:
    """Train up to a step, and leave a checkpoint there."""
    training = masked(**saved_by_first(ranks, folder))
    steps = itertools.count()

    def before_step() -> None:
        if next(steps) == after:
            if training.checkpoint is not None:
                training.checkpoint.save_now()
            raise InterruptedError

    with pytest.raises(InterruptedError):
        outcome(training, ranks, before_step=before_step)


@pytest.fixture(scope="module", params=[2, 4])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Path]:
    """What each of 2 and of 4 processes ends with."""
    folder = tmp_path_factory.mktemp("checkpoints")
    interrupted(None, folder / "of one", 2)
    return run_on_ranks(request.param, all_cases, folder), folder


@functools.cache
def alone(name: str) -> dict[str, Any]:
    return outcome(CASES[name]())


@pytest.mark.parametrize("name", [*CASES, "resumed"])
def test_several_processes_end_where_one_ends(together: tuple[list[Any], Path], name: str) -> None:
    expected = alone("batch norm and masks" if name == "resumed" else name)
    first, *others = [found[name] for found in together[0]]
    for other in others:
        assert_alike(other, first, 0.0)
    assert_alike(first, expected, 1e-5 if any(word in name for word in ROUNDED) else 1e-9)


def test_one_process_goes_on_from_a_checkpoint_of_two(together: tuple[list[Any], Path]) -> None:
    if len(together[0]) != 2:
        pytest.skip("needs two processes")
    found = outcome(masked(checkpoint=Checkpointer(together[1] / "of two", every_seconds=1e9)))
    assert_alike(found, alone("batch norm and masks"), 1e-9)


def stops(ranks: Ranks, folder: Path) -> None:
    interrupted(ranks, folder, 3)


def goes_on(ranks: Ranks, folder: Path) -> tuple[int, dict[str, Any]]:
    """How many steps are left of an interrupted training, and what it ends with."""
    steps: list[int] = []
    found = outcome(masked(**saved_by_first(ranks, folder)), ranks, before_step=lambda: steps.append(1))
    return len(steps), found


@pytest.mark.parametrize(("first", "second"), [(2, 4), (4, 2)])
def test_other_numbers_of_processes_go_on_from_a_checkpoint(first: int, second: int, tmp_path: Path) -> None:
    run_on_ranks(first, stops, tmp_path)
    for steps, found in run_on_ranks(second, goes_on, tmp_path):
        assert steps == 1, "the first three are not repeated"
        assert_alike(found, alone("batch norm and masks"), 1e-9)


@pytest.mark.parametrize("name", list(DRAWING))
def test_draws_are_those_of_the_process_and_the_step(together: tuple[list[Any], Path], name: str) -> None:
    if len(together[0]) != 2:
        pytest.skip("needs two processes")
    (first, again), (other, _) = (found[name] for found in together[0])
    assert_alike(first, again, 0.0)
    assert_alike(first, other, 0.0)
    assert all(bool(tensor.isfinite().all()) for tensor in first["weights"].values())


def differ(ranks: Ranks) -> str:
    """Processes with other weights than the first find that out."""
    model = small_cnn(seed=ranks.rank)
    try:
        outcome(job(model=model), ranks)
    except OutOfStepError as error:
        return str(error).partition(":")[0]
    return ""


def test_processes_that_differ_stop() -> None:
    assert set(run_on_ranks(2, differ)) == {"the 2 processes of this training differ in what they train"}
