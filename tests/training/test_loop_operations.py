"""The cost of a training step, counted in operations, since timings on a shared machine are too noisy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from regression_data import spots
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _python_dispatch
from vision_data import SEGMENT, TAG, VisionCase

from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.sparsifiers.penalty import RisingPenalty
from tickdsl.training.step.distillation import Distillation

BATCH = 32


_Mode: Any = _python_dispatch.TorchDispatchMode


class _Count(_Mode):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if not name.startswith("_record_function"):  # the profiler's marks compute nothing
            self.names[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 96, "test": 40, "classes": 4})


def _bare_step(
    model: nn.Module, images: Tensor, targets: Tensor, mean: Tensor, std: Tensor, compute_loss: Any = F.cross_entropy
) -> Callable[[], None]:
    """A hand-written step over the same tensors: gather, normalise, forward, backward, fused SGD, loss sum."""
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=5e-4, fused=True)
    order, total = torch.randperm(len(targets)), torch.zeros((), dtype=torch.float64)

    def step() -> None:
        chosen = order[:BATCH]
        x = images.index_select(0, chosen).float().sub_(mean).mul_(std)
        loss = compute_loss(model(x), targets.index_select(0, chosen))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        total.add_(loss.detach(), alpha=BATCH)

    return step


def _counted_step(
    model: nn.Module,
    tiny: Dataset,
    masks: dict[str, Tensor],
    distillation: Distillation | None = None,
    sparsifier: RisingPenalty | None = None,
    **more: Any,
) -> Counter[str]:
    """The operations of one step of `train` in the middle of an epoch."""
    counter, calls = _Count(), 0

    def before_step() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            counter.__enter__()
        if calls == 3:
            counter.__exit__(None, None, None)

    recipe = Recipe(length="1ep", lr=0.05, batch=BATCH, decay=5e-4, momentum=0.9, **more)
    train(
        model, tiny, recipe, seed=0, masks=masks, before_step=before_step, distillation=distillation,
        sparsifier=sparsifier,
    )  # fmt: skip
    assert calls == 3
    return counter.names


@pytest.mark.parametrize("name", ["lenet-300-100", "small-cnn", "resnet20"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_step_is_the_bare_step_and_one_mask_operation(tiny: Dataset, name: str, masked: bool) -> None:
    model = models.create(name, classes=4, shape=tiny.shape, seed=0)
    masks = {key: p > 0 for key, p in model.named_parameters() if p.dim() > 1} if masked else {}
    ours = _counted_step(model, tiny, masks)
    mean, std = tiny.mean.view(1, -1, 1, 1), tiny.std.view(1, -1, 1, 1)
    model.to(memory_format=torch.channels_last if name != "lenet-300-100" else torch.contiguous_format)  # type: ignore[call-overload]
    step = _bare_step(model, tiny.train_inputs, tiny.train_targets, mean, std)
    step()
    with _Count() as counter:
        step()
    expected = counter.names + Counter({"_foreach_mul_": 1} if masked else {})
    assert ours == expected
    assert ours["_local_scalar_dense"] == 0


@pytest.mark.parametrize("name", ["lenet-300-100", "small-cnn", "resnet20"])
def test_a_growing_penalty_is_one_operation_of_the_step(tiny: Dataset, name: str) -> None:
    """Whatever the number of layers; a step before which the factor changes sets it in two more."""

    def counted(sparsifier: RisingPenalty | None) -> Counter[str]:
        model = models.create(name, classes=4, shape=tiny.shape, seed=0)
        return _counted_step(model, tiny, {}, sparsifier=sparsifier)

    parameters = models.create(name, classes=4, shape=tiny.shape, seed=0).named_parameters()
    chosen = {key: p > 0 for key, p in parameters if p.dim() > 1}
    plain = counted(None)
    assert counted(RisingPenalty(chosen, 0.1, every=3, to=1.0)) == plain + Counter({"_foreach_addcmul_": 1})
    growing = counted(RisingPenalty(chosen, 0.1, every=1, to=1.0))
    assert growing == plain + Counter({"_foreach_addcmul_": 1, "_foreach_mul": 1, "_foreach_copy_": 1})


def test_a_regression_step_is_the_bare_step_with_the_squared_error() -> None:
    data = spots(train=96)
    model = models.create("lenet-300-100", classes=2, shape=data.shape, seed=0)
    ours = _counted_step(model, data, {})
    mean, std = data.mean.view(1, -1, 1, 1), data.std.view(1, -1, 1, 1)
    step = _bare_step(model, data.train_inputs, data.train_targets, mean, std, F.mse_loss)
    step()
    with _Count() as counter:
        step()
    assert ours == counter.names
    assert ours["_local_scalar_dense"] == 0


@pytest.mark.parametrize("case", [SEGMENT, TAG], ids=["segment", "tag"])
def test_a_step_of_another_task_is_the_bare_step_with_its_loss(case: VisionCase) -> None:
    data, model = case.dataset(train=96), case.network()
    ours = _counted_step(model, data, {})
    mean, std = data.mean.view(1, -1, 1, 1), data.std.view(1, -1, 1, 1)
    step = _bare_step(model, data.train_inputs, data.train_targets, mean, std, data.task.bind())
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    step()
    with _Count() as counter:
        step()
    assert ours == counter.names
    assert ours["_local_scalar_dense"] == 0


def test_masks_are_moved_without_waiting_for_the_device() -> None:
    waits, data = _Count(), SEGMENT.dataset(train=96)
    recipe = Recipe(length="2ep", lr=0.05, batch=8, augment=("crop", "flip", "rotation"))
    with waits:
        train(SEGMENT.network(), data, recipe, seed=0)
    assert waits.names["_local_scalar_dense"] == 0


#: What moving a batch costs beside the step: images, and masks in the second case, are padded once before.
@pytest.mark.parametrize(("augment", "more"), [(("flip",), Counter(flip=1, where=1, slice=1, view=1))])
def test_augmented_images_without_masks_cost_what_they_did(
    tiny: Dataset, augment: tuple[str, ...], more: Counter[str]
) -> None:
    def network() -> nn.Module:
        return models.create("small-cnn", classes=4, shape=tiny.shape, seed=0)

    plain, moved = (_counted_step(network(), tiny, {}, augment=kinds) for kinds in ((), augment))
    assert moved == plain + more


def test_an_epoch_does_not_wait_for_the_device(tiny: Dataset) -> None:
    waits = _Count()
    model = models.create("small-cnn", classes=4, shape=tiny.shape, seed=0)
    recipe = Recipe(length="2ep", lr=0.05, batch=8, augment=("crop", "flip", "rotation"), schedule="one-cycle")
    with waits:
        train(model, tiny, recipe, seed=0)
    # None of the 24 steps waits for a number.
    assert waits.names["_local_scalar_dense"] == 0
    assert waits.names["_fused_sgd_"] == 24


#: The operations that distillation adds to a step: gathering the teacher's outputs, softening the student's, their
#: divergence, the weighted sum, and the backward pass. Each is much smaller than a layer.
_DISTILLATION_OPS = Counter(
    index_select=1, div=4, _log_softmax=1, sub=1, exp=1, mul=6, sum=1, add=2, expand=1, neg=1, detach=2,
    _log_softmax_backward_data=1,
)  # fmt: skip


def test_distillation_costs_the_divergence_and_with_augmentation_the_teachers_forward(tiny: Dataset) -> None:
    def network() -> nn.Module:
        return models.create("small-cnn", classes=4, shape=tiny.shape, seed=0)

    plain = _counted_step(network(), tiny, {})
    distilled = _counted_step(network(), tiny, {}, Distillation(network(), 5.0, 0.9))
    assert distilled == plain + _DISTILLATION_OPS  # no forward pass: the teacher's outputs are precomputed
    flipped = _counted_step(network(), tiny, {}, augment=("flip",))
    both = _counted_step(network(), tiny, {}, Distillation(network(), 5.0, 0.9), augment=("flip",))
    assert both["convolution"] == 2 * flipped["convolution"]
    assert both["convolution_backward"] == flipped["convolution_backward"]
    assert distilled["_local_scalar_dense"] == both["_local_scalar_dense"] == 0
