"""Criteria on networks whose parts are trained in turn, and on networks that draw noise and return several tensors."""

from __future__ import annotations

import math

import attrs
import pytest
import torch
from criteria_helpers import make_subject, trace_module, with_random_batch_norms
from generated_images import NAMES, digits, network
from torch import Tensor

from tickdsl.graph.structure import Structure
from tickdsl.pruning.criteria import ScoringContext, get_criterion
from tickdsl.training.tasks import find_task
from tickdsl.training.tasks.generate import discriminator_loss, generator_loss
from tickdsl.training.tasks.phases import joint_loss

TASKS = {"dcgan": "generate", "vae": "vae", "conv-vae": "vae"}


def subject(name: str) -> tuple[torch.nn.Module, ScoringContext]:
    data = digits(TASKS.get(name, "reconstruct"))
    module = with_random_batch_norms(network(name))
    images = data.preprocess()(data.train_inputs[:30])
    context = make_subject(module, trace_module(module), batches=[(images, data.train_targets[:30])])
    return module, attrs.evolve(context, loss=data.task.loss, logits=False, phases=data.task.phases)


def test_the_joint_loss_has_the_gradient_of_a_parts_own_phase() -> None:
    model, images = network().eval(), torch.rand(8, 1, 8, 8) * 2 - 1
    weights = dict(model.named_parameters())
    torch.manual_seed(0)
    joint = joint_loss(model, images, images, digits().task.phases)
    found = dict(zip(weights, torch.autograd.grad(joint, list(weights.values())), strict=True))
    torch.manual_seed(0)  # the phases draw one after the other
    alone = [loss(model, images, images) for loss in (discriminator_loss, generator_loss)]
    assert float(joint) == pytest.approx(float(sum(alone)))
    for name, weight in weights.items():
        (expected,) = torch.autograd.grad(alone[name.startswith("generator")], weight, retain_graph=True)
        assert torch.allclose(found[name], expected, atol=1e-7), name
    assert all(weight.requires_grad for weight in weights.values())


def _snip(context: ScoringContext) -> dict[str, Tensor]:
    names = list(context.graph.weights)
    torch.manual_seed(0)
    return dict(zip(names, get_criterion("snip").weights(context, names), strict=True))


def test_snip_scores_a_weight_by_the_loss_of_the_phase_that_trains_it() -> None:
    _, context = subject("dcgan")
    both = _snip(context)
    for phase in context.phases:
        # Another loss of the other part changes no score of this one; the noise of the phases is drawn in turn.
        others = [attrs.evolve(p, loss=lambda *a, p=p: 3 * p.loss(*a)) if p is not phase else p for p in context.phases]
        changed = _snip(attrs.evolve(context, phases=others))
        for name in both:
            factor = 1 if phase.trains(name) else 3
            assert torch.allclose(changed[name], factor * both[name], rtol=1e-3, atol=1e-5), (phase.name, name)


@pytest.mark.parametrize("criterion", ["snip", "grasp", "taylor", "synflow", "magnitude"])
@pytest.mark.parametrize("name", NAMES)
def test_criteria_score_every_weight_of_every_part(name: str, criterion: str) -> None:
    _, context = subject(name)
    names = list(context.graph.weights)
    scores = []
    for _ in range(2):
        torch.manual_seed(0)
        scores.append(get_criterion(criterion).weights(context, names))
    for weight, first, again in zip(names, *scores, strict=True):
        assert first.shape == (math.prod(context.graph.weights[weight].shape),)
        assert bool(torch.isfinite(first).all()) and torch.equal(first, again)
        assert first.abs().max() > 0, weight


@pytest.mark.parametrize("criterion", ["snip", "taylor", "l1", "hrank"])
def test_criteria_score_the_channels_of_a_generator_and_a_discriminator(criterion: str) -> None:
    _, context = subject("dcgan")
    groups = [group for group in context.graph.channels if group.reason is None]
    assert {group.name.split(".")[0] for group in groups} == {"generator", "discriminator"}
    for group, scores in zip(groups, get_criterion(criterion).channels(context, groups), strict=True):
        assert scores.shape == (group.size,) and bool(torch.isfinite(scores).all())


def test_the_score_of_a_gated_weight_is_the_change_of_its_phases_loss() -> None:
    """Taylor's scores are squares of first-order changes, here of the generator's loss."""
    _, context = subject("dcgan")
    name = "generator.deconv2.weight"
    torch.manual_seed(0)
    (scores,) = get_criterion("taylor").weights(context, [name])
    index, step = int(scores.argmax()), 1e-3
    losses = []
    for factor in (1 - step, 1 + step):
        moved = context.network(Structure.dense(context.graph)).eval()
        weight = moved.get_parameter(name)
        with torch.no_grad():
            weight.view(-1)[index] *= factor
        torch.manual_seed(0)
        with torch.no_grad():
            discriminator_loss(moved, *context.batches(None)[0])  # type: ignore[arg-type]
            losses.append(float(generator_loss(moved, *context.batches(None)[0])))  # type: ignore[arg-type]
    slope = (losses[1] - losses[0]) / (2 * step)
    assert slope**2 == pytest.approx(float(scores[index]), rel=0.1)
    assert find_task("generate").phases[1].trains(name)
