"""Losses and optimisers of one's own: found, tried, trained with, continued with equal bits, or refused with words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import nn

from tickdsl.errors import TickdslError
from tickdsl.plan.plugin_code import plugin_identities
from tickdsl.plugins import PluginError
from tickdsl.plugins.calls import Call, CallError
from tickdsl.training import models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.sparsifiers.evolving import Evolution
from tickdsl.training.sparsifiers.protocol import SparseNetwork
from tickdsl.training.stacked.eligibility import stacking_obstacle
from tickdsl.training.step import optimisers
from tickdsl.training.step.masks import Masks

PRUNE = "prune filters local 25% x 2; rewind lr\n"
RECIPE = Recipe(length="3ep", lr=0.01, batch=25, decay=1e-3)
STEPS = 6
LION = """
import torch

class Lion(torch.optim.Optimizer):
    '''Sign of an average of the gradient (Chen et al. 2023).'''

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * torch.sign(beta1 * m + (1 - beta1) * p.grad))
                m.mul_(beta2).add_(p.grad, alpha=1 - beta2)
"""


class Stop(Exception):
    """Ends a training on purpose."""


def errors(sandbox: Any, text: str) -> list[Any]:
    return [d for d in sandbox.check(text).diagnostics if d.severity == "error"]


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 50, "test": 40, "classes": 4})


def _train(data: Dataset, recipe: Recipe, seed: int = 1, **more: Any) -> tuple[nn.Module, Any]:
    model = models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=0)
    stream = torch.Generator().manual_seed(3)
    masks = {n: torch.rand(p.shape, generator=stream) < 0.5 for n, p in model.named_parameters() if p.dim() > 1}
    history = train(model, data, recipe, seed=seed, masks=masks, **more)
    for name, mask in (history.masks or masks).items():
        assert not model.state_dict()[name][~mask].any()
    return model, history


# -- names with options


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("focal", "focal"),
        (" focal ( gamma = 1 ) ", "focal(gamma=1)"),
        ("a.b:C(z=(1, 2), b='x', a=[1, None])", "a.b:C(a=[1, None], b='x', z=(1, 2))"),
        ("smooth-l1(beta=1e-3)", "smooth-l1(beta=0.001)"),
        ("focal()", "focal"),
    ],
)
def test_a_call_is_read_and_written(text: str, canonical: str) -> None:
    assert str(Call.parse(text)) == canonical
    assert Call.parse(canonical) == Call.parse(text)


@pytest.mark.parametrize(
    "text", ["", "(", "f(", "f(1)", "f(**x)", "f(a=b)", "f(a=open('x'))", "f(a=1)(b=2)", "f(a={1: 2})", "f(a=1) or 2"]
)
def test_what_is_no_call_is_refused_and_not_run(text: str) -> None:
    with pytest.raises(CallError):
        Call.parse(text)


# -- losses


def test_a_loss_is_a_function_or_a_class(sandbox: Any, tiny: Dataset) -> None:
    own = sandbox.module(
        """
        from torch import nn
        from torch.nn import functional as F

        def scaled(outputs, targets, by=1.0):
            '''Cross-entropy, scaled.'''
            return by * F.cross_entropy(outputs, targets)

        class Scaled(nn.Module):
            def __init__(self, by=1.0):
                super().__init__()
                self.by = by

            def forward(self, outputs, targets):
                return scaled(outputs, targets, self.by)
        """
    )
    sandbox.install("box", losses={"scaled": f"{own}:scaled"})
    plain, _ = _train(tiny, attrs.evolve(RECIPE, decay=0.0))
    for name in ("scaled(by=1.0)", f"{own}:Scaled(by=1)", "torch.nn:CrossEntropyLoss"):
        model, _ = _train(tiny, attrs.evolve(RECIPE, decay=0.0, loss=name))
        for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            assert torch.equal(ours, theirs)
    assert errors(sandbox, f"train 2ep loss=scaled\n{PRUNE}") == []
    assert errors(sandbox, 'train 2ep loss="scaled(by=2)"\nprune filters 20%; retrain recipe 2ep loss=focal') == []
    (found,) = errors(sandbox, f"train 2ep loss=scald\n{PRUNE}")
    assert (found.code, found.label) == ("TD105", "did you mean `scaled`?")
    recipe = {"recipe": attrs.evolve(RECIPE, loss="scaled(by=2)").to_dict()}
    assert plugin_identities(recipe)["loss"].startswith(f"{own}:scaled box 1.0 ")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return (outputs - 1).square().mean(1)", "returns a tensor [25]"),
        ("return 3", "returns an int"),
        ("return outputs.detach().mean()", "does not depend on the outputs"),
        ("raise KeyError('colour')", "raised KeyError: 'colour'"),
        ("return outputs.mean() * float('nan')", "the training diverged: the loss is nan in epoch 1"),
    ],
)
def test_a_loss_that_cannot_be_used_is_one_message(sandbox: Any, tiny: Dataset, body: str, message: str) -> None:
    own = sandbox.module(f"def bad(outputs, targets):\n    {body}\n")
    with pytest.raises(TickdslError, match=message.replace("[", r"\[")) as caught:
        _train(tiny, attrs.evolve(RECIPE, loss=f"{own}:bad"))
    assert "diverged" not in message or f"loss={own}:bad" in caught.value.hint


def test_a_loss_with_weights_of_its_own_is_refused_by_check(sandbox: Any) -> None:
    own = sandbox.module(
        "from torch import nn\nclass Learnt(nn.Linear):\n    def __init__(self): super().__init__(2, 2)"
    )
    (found,) = errors(sandbox, f'train 2ep loss="{own}:Learnt"\n{PRUNE}')
    assert found.code == "TD118" and "weights of its own" in found.message
    (found,) = errors(sandbox, f'train 2ep loss="{own}:Learnt(size=1)"\n{PRUNE}')
    assert found.code == "TD118" and "unexpected keyword argument 'size'" in found.message


def test_parts_that_are_trained_in_turn_have_no_other_loss(sandbox: Any) -> None:
    (found,) = errors(sandbox, f'model dcgan on digits\ntrain 2ep loss="torch.nn:MSELoss"\n{PRUNE}')
    assert found.code == "TD474" and "in turn" in found.message


# -- augmentations


SPECKLE = """
import random

import numpy as np
import torch

def speckle(image, share=0.3):
    '''Black pixels, and a random offset of numpy and of Python.'''
    kept = torch.rand(image.shape[1:]) >= share
    return (image * kept + np.random.randint(3) + random.randrange(3)).to(image.dtype)

class Speckle:
    def __init__(self, share=0.3):
        self.share = share

    def __call__(self, image):
        return speckle(image, self.share)
"""


def test_an_augmentation_is_a_function_or_a_class(sandbox: Any, tiny: Dataset, tmp_path: Path) -> None:
    own = sandbox.module(SPECKLE)
    sandbox.install("box", augmentations={"speckle": f"{own}:speckle"})
    recipes = [
        attrs.evolve(RECIPE, augment=("flip", name)) for name in ("speckle(share=0.2)", f"{own}:Speckle(share=0.2)")
    ]
    ends = [nn.utils.parameters_to_vector(_train(tiny, recipe)[0].parameters()) for recipe in recipes]
    assert torch.equal(*ends)
    checkpoint, taken = Checkpointer(tmp_path / "stopped", every_seconds=0), iter(range(3))

    def interrupt() -> None:
        if next(taken, None) is None:
            raise Stop

    with pytest.raises(Stop):
        _train(tiny, recipes[0], checkpoint=checkpoint, before_step=interrupt)
    resumed, _ = _train(tiny, recipes[0], checkpoint=checkpoint)
    assert torch.equal(nn.utils.parameters_to_vector(resumed.parameters()), ends[0])
    assert errors(sandbox, f'train 2ep augment=[flip, "speckle(share=0.1)", RandomErasing]\n{PRUNE}') == []
    (found,) = errors(sandbox, f"train 2ep augment=spekcle\n{PRUNE}")
    assert (found.code, found.label) == ("TD105", "did you mean `speckle`?")
    assert set(plugin_identities({"recipe": recipes[0].to_dict()})) == {"augmentation speckle"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return image[:, 1:]", "it makes torch.uint8 [1, 7, 8] of an image torch.uint8 [1, 8, 8]"),
        ("return image.float()", "it makes torch.float32"),
        ("return None", "it makes a NoneType"),
        ("return image.resize((4, 4))", "raised"),
    ],
)
def test_an_augmentation_that_cannot_be_used_is_a_finding(sandbox: Any, body: str, message: str) -> None:
    own = sandbox.module(f"def bad(image):\n    {body}\n")
    (found,) = errors(sandbox, f'data digits\ntrain 2ep augment=["{own}:bad"]\n{PRUNE}')
    assert found.code == "TD469" and message in found.message


def test_masks_need_augmentations_that_move_them(sandbox: Any) -> None:
    own = sandbox.module("def same(image):\n    return image\n")
    text = f'model unet on shapes\ntrain 2ep augment="{own}:same"\nprune filters 25% except head; rewind lr'
    (found,) = errors(sandbox, text)
    assert found.code == "TD469" and "without their masks" in found.message


# -- optimisers


@pytest.mark.parametrize("option", ["", "(betas=(0.8, 0.9))"])
def test_an_optimiser_trains_with_masks_and_continues_with_the_same_bits(
    sandbox: Any, tiny: Dataset, tmp_path: Path, option: str
) -> None:
    sandbox.install("box", optimisers={"lion": f"{sandbox.module(LION)}:Lion"})
    recipe = attrs.evolve(RECIPE, optimizer=f"lion{option}", schedule="one-cycle", max_lr=0.01)
    whole, expected = _train(tiny, recipe)
    for stop_at in range(1, STEPS):
        checkpoint = Checkpointer(tmp_path / str(stop_at), every_seconds=0)
        taken = iter(range(stop_at))

        def interrupt() -> None:
            if next(taken, None) is None:  # noqa: B023
                raise Stop

        with pytest.raises(Stop):
            _train(tiny, recipe, checkpoint=checkpoint, before_step=interrupt)
        resumed, history = _train(tiny, recipe, checkpoint=checkpoint)
        assert history == expected
        for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_options_change_the_training_and_its_key(sandbox: Any, tiny: Dataset) -> None:
    sandbox.install("box", optimisers={"lion": f"{sandbox.module(LION)}:Lion"})
    recipes = [attrs.evolve(RECIPE, optimizer=name) for name in ("lion", "lion(betas=(0.5, 0.5))")]
    one, other = (nn.utils.parameters_to_vector(_train(tiny, recipe)[0].parameters()) for recipe in recipes)
    assert not torch.equal(one, other)
    assert recipes[0].to_dict() != recipes[1].to_dict()
    codes = [plugin_identities({"recipe": recipe.to_dict()})["optimiser"] for recipe in recipes]
    assert codes[0] == codes[1]


def test_torchs_own_optimisers_can_be_named(sandbox: Any, tiny: Dataset) -> None:
    """Against the same steps by torch's optimiser of that name."""
    model, _ = _train(tiny, attrs.evolve(RECIPE, optimizer="torch.optim:AdamW(betas=(0.9, 0.999))"))
    theirs, _ = _train(tiny, attrs.evolve(RECIPE, optimizer="adamw"))
    for ours, known in zip(model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours, known, rtol=1e-4, atol=1e-6)
    assert errors(sandbox, f'train 2ep opt="torch.optim:RAdam(eps=1e-7)" lr=0.001\n{PRUNE}') == []


def test_groups_keep_their_share_of_the_rate(sandbox: Any) -> None:
    own = sandbox.module(
        """
        import torch

        def split(params, lr):
            '''Biases learn twice as fast.'''
            params = list(params)
            matrices, biases = [p for p in params if p.dim() > 1], [p for p in params if p.dim() == 1]
            return torch.optim.SGD([{"params": matrices}, {"params": biases, "lr": 2 * lr}], lr=lr)
        """
    )
    layer = nn.Linear(3, 2)
    optimiser = optimisers.build(list(layer.parameters()), attrs.evolve(RECIPE, optimizer=f"{own}:split", decay=0.0))
    optimisers.set_rate(optimiser, 0.5)
    before = [p.detach().clone() for p in layer.parameters()]
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimisers.update(optimiser)
    torch.testing.assert_close(layer.weight.detach(), before[0] - 0.5)
    torch.testing.assert_close(layer.bias.detach(), before[1] - 1.0)


REFUSED: dict[str, tuple[str, str]] = {
    "closure": ("torch.optim:LBFGS", "needs a closure: it computes the loss several times"),
    "rate": ("torch.optim:RAdam(lr=1)", "sets lr"),
    "unknown option": ("torch.optim:RAdam(ep=1)", "unexpected keyword argument 'ep'"),
    "no optimiser": ("OWN:number", "makes an int, not an optimiser"),
    "no decay": ("OWN:undecayed", "has no weight decay"),
    "left out": ("OWN:Half", "does not update every parameter"),
    "hidden state": ("OWN:Hidden", "does not continue from its `state_dict`"),
    "fails": ("OWN:Fails", "raised RuntimeError: no such layer"),
}
BAD = """
import torch

def number(params, lr, weight_decay=0.0):
    return 3

def undecayed(params, lr):
    return torch.optim.SGD(params, lr)

class Half(torch.optim.SGD):
    def __init__(self, params, lr, weight_decay):
        super().__init__(list(params)[1:], lr)

class Hidden(torch.optim.SGD):
    def __init__(self, params, lr, weight_decay):
        super().__init__(params, lr)
        self.count = 0

    def step(self, closure=None):
        self.count += 1
        self.param_groups[0]["lr"] /= self.count
        super().step()

class Fails(torch.optim.SGD):
    def __init__(self, params, lr, weight_decay):
        super().__init__(params, lr)

    def step(self, closure=None):
        raise RuntimeError("no such layer")
"""


@pytest.mark.parametrize("case", REFUSED)
def test_an_optimiser_that_cannot_be_used_is_a_finding(sandbox: Any, tiny: Dataset, case: str) -> None:
    name, message = REFUSED[case]
    name = name.replace("OWN", sandbox.module(BAD))
    decay = 1e-4 if case == "no decay" else 0
    (found,) = errors(sandbox, f'train 2ep opt="{name}" lr=0.01 decay={decay}\n{PRUNE}')
    assert found.code == "TD118" and message in found.message
    with pytest.raises(PluginError):
        _train(tiny, attrs.evolve(RECIPE, optimizer=name, decay=decay))


def test_momentum_options_have_no_effect(sandbox: Any) -> None:
    sandbox.install("box", optimisers={"lion": f"{sandbox.module(LION)}:Lion"})
    report = sandbox.check(f"train 2ep opt=lion lr=0.01 momentum=0.8 beta1=0.8 beta2=0.9\n{PRUNE}")
    idle = [d.message for d in report.diagnostics if d.code == "TD119"]
    assert [message.split("=")[0] for message in idle] == ["`momentum", "`beta1", "`beta2"]


def test_an_edited_optimiser_is_another_key(sandbox: Any) -> None:
    (sandbox.folder / "own_edited.py").write_text(LION)
    args = {"recipe": {"optimizer": "own_edited:Lion(betas=(0.5, 0.5))"}}
    before = plugin_identities(args)
    from tickdsl.plugins import loading

    (sandbox.folder / "own_edited.py").write_text(LION.replace("0.99", "0.98"))
    loading.code_identity.cache_clear()
    assert before.keys() == {"optimiser"} and plugin_identities(args) != before


def test_their_trainings_are_not_stacked(sandbox: Any, tiny: Dataset) -> None:
    recipe = attrs.evolve(RECIPE, optimizer=f"{sandbox.module(LION)}:Lion")
    jobs = [
        TrainingJob(
            model=models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=seed), data=tiny, recipe=recipe, seed=seed
        )
        for seed in (1, 2)
    ]
    assert "one of one's own" in str(stacking_obstacle(jobs, InMemoryChoices(), torch.device("cpu")))


@pytest.mark.parametrize("grow", ["gradient", "momentum", "random"])
def test_weights_that_enter_have_fresh_state(sandbox: Any, tiny: Dataset, grow: Any) -> None:
    recipe = attrs.evolve(RECIPE, optimizer=f"{sandbox.module(LION)}:Lion")
    _, history = _train(tiny, recipe, sparsifier=Evolution(0.3, 2, STEPS, grow=grow))
    assert sum(entered for _, _, entered in history.changes) > 0
    layer = nn.Linear(4, 3, bias=False)
    optimiser = optimisers.build([layer.weight], recipe)
    layer.weight.grad = torch.ones_like(layer.weight)
    optimisers.update(optimiser)
    network = SparseNetwork(layer, {"weight": layer.weight}, Masks(layer, {}), optimiser, seed=0)
    entering = torch.zeros(3, 4, dtype=torch.bool)
    entering[1, 2] = True
    network.reset_state("weight", entering)
    momentum = network.momentum("weight")
    assert momentum is not None and torch.equal(momentum == 0, entering)


def test_evolving_needs_a_state_per_weight(sandbox: Any, tiny: Dataset) -> None:
    own = sandbox.module(
        """
        import torch

        class Rows(torch.optim.SGD):
            def __init__(self, params, lr, weight_decay):
                super().__init__(params, lr)

            @torch.no_grad()
            def step(self, closure=None):
                for p in self.param_groups[0]["params"]:
                    norms = self.state[p].setdefault("norms", torch.zeros(len(p)))
                    norms.add_(p.grad.flatten(1).norm(dim=1) if p.dim() > 1 else p.grad.abs())
                super().step()
        """
    )
    recipe = attrs.evolve(RECIPE, optimizer=f"{own}:Rows")
    _train(tiny, recipe)
    with pytest.raises(TickdslError, match=r"keeps `norms` \[\d+\] for .*: the state of a weight that enters"):
        _train(tiny, recipe, sparsifier=Evolution(0.3, 2, STEPS))
    with pytest.raises(TickdslError, match="keeps no moving average of the gradient"):
        _train(tiny, recipe, sparsifier=Evolution(0.3, 2, STEPS, grow="momentum"))
