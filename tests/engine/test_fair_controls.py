"""Controls learn what a fresh network of their shape learns, whatever built the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from step_runner import StepRunner, step_runner
from torch import nn

from tickdsl.plugins import permission
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe

PLAIN = '''
from torch import nn

def plain(classes, shape):
    """Sixteen convolutions without batch norm, initialised for their fan-in by a loop, as many authors do."""
    layers = []
    for i in range(16):
        layers += [nn.Conv2d(shape[0] if i == 0 else 32, 32, 3, padding=1), nn.ReLU()]
        if i in (5, 10):
            layers.append(nn.MaxPool2d(2))
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes))
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return network
'''

#: Model, data and training by family.
FAMILIES = {
    "plain": ('model "own_plain:plain"\ndata digits', "train 8ep opt=adam lr=0.003 batch=64"),
    "batch norm": ("model resnet20 width=0.5\ndata digits size=16 channels=3", "train 6ep lr=0.1 batch=64"),
    "torchvision": ("model squeezenet1_1\ndata digits size=32 channels=3", "train 12ep opt=adam lr=0.001 batch=64"),
}


def _runner(family: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> StepRunner:
    (folder / "own_plain.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(folder)
    network, training = FAMILIES[family]
    prunes = "prune filters local 75% by random at init\ncompare random-init, random-structure"
    monkeypatch.setattr(permission, "_allowed", True)
    return step_runner(folder, prunes, head=f"{network}\n{training}\n")


def _independent_accuracy(runner: StepRunner, key: str) -> float:
    """What a network of the control's shape learns from weights that this test draws."""
    step, context = runner.study.step(key), runner.context
    network = context.dense_network(step)
    structure = context.structure(step.parents.get("structure"), network.graph)
    module = context.module(network, structure, context.weights(step.parents["weights"], structure, network.graph))
    torch.manual_seed(7)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    history = train(
        module, context.dataset(step.args["data"], step.seed), Recipe.from_dict(step.args["recipe"]), seed=7
    )
    return history.epochs[-1].test_accuracy


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_controls_learn_what_a_fresh_network_of_their_shape_learns(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = _runner(family, tmp_path, monkeypatch)
    arm = runner.study.plan.arms[0].id
    fresh = None
    for control in ("random-init", "random-structure"):
        key = runner.measured_step(control, 1, arm)
        accuracy = runner.metrics(key)["accuracy"]
        if fresh is None:
            fresh = _independent_accuracy(runner, key)
            assert fresh > 0.5, "the recipe is too short to compare with"

        assert accuracy > fresh - 0.15, control
