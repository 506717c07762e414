"""A plan that starts from a ticket goes on from its structure and its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from plan_tickets import plan_ticket, written
from step_runner import StepRunner, equal_states, step_runner

from tickdsl.engine.dense_networks import dense_network
from tickdsl.errors import TickdslError
from tickdsl.graph import Structure
from tickdsl.graph.indexing import kept_units, remaining_weights
from tickdsl.pruning.cost_targets import cost_metrics
from tickdsl.tickets.ticket_file import open_ticket

TRAIN = "\ntrain 1ep lr=0.05 batch=256\n"


def runner(folder: Path, rounds: str, model: str = "small-cnn") -> StepRunner:
    return step_runner(folder, rounds, f'model {model} on digits weights="{folder / "t.safetensors"}"{TRAIN}')


def is_nested(inner: Structure, outer: Structure, graph: object) -> bool:
    """Whether a structure keeps nothing that the other does not keep."""
    mine, theirs = kept_units(graph, inner), kept_units(graph, outer)  # type: ignore[arg-type]
    units = all(name in mine and not (mine[name] & ~kept).any() for name, kept in theirs.items())
    masks = all(name in inner.masks and not (inner.masks[name] & ~mask).any() for name, mask in outer.masks.items())
    return units and masks and inner.removed_blocks >= outer.removed_blocks


CASES = [
    pytest.param("small-cnn", {}, "prune filters 20% x 2; rewind lr", id="filters"),
    pytest.param("small-cnn", {"masks": True}, "prune weights 20% x 2; rewind weights", id="weights"),
    pytest.param("lenet-300-100", {}, "prune neurons 20% x 2; retrain fine-tune 1ep", id="neurons"),
    pytest.param("resnet20", {"blocks": 1}, "prune layers 1 x 2; rewind lr", id="layers"),
]


@pytest.mark.parametrize(("model", "ticket", "rounds"), CASES)
def test_structures_are_nested_and_level_0_is_the_ticket(model: str, ticket: dict, rounds: str, tmp_path: Path) -> None:
    made = plan_ticket(model, **ticket)
    written(tmp_path / "t.safetensors", made)
    run = runner(tmp_path, rounds, model)
    level0 = run.measured_step("dense", 0)
    assert run.study.step(level0).operation == "evaluate"
    data = run.context.dataset(run.study.step(level0).args["data"], 1)
    state = run.weights(level0)
    assert equal_states(state, open_ticket(tmp_path / "t.safetensors").weights)
    with torch.no_grad():
        outputs = made.network()(
            (data.test_inputs.float() / 255 - data.mean.view(1, -1, 1, 1)) / data.std.view(1, -1, 1, 1)
        )
    right = (outputs.argmax(1) == data.test_targets).float().mean().item()
    assert run.metrics(level0)["accuracy"] == pytest.approx(right, abs=1e-6)
    graph = run.context.dense_network(run.study.step(level0)).graph
    outer = made.structure
    levels = run.levels(run.study.plan.arms[0].id)
    assert len(levels) == 2
    for level in levels:
        inner = run.structure(level.structure)
        assert is_nested(inner, outer, graph) and inner != outer
        outer = inner


def test_what_is_left_counts_from_the_dense_network(tmp_path: Path) -> None:
    ticket = plan_ticket(masks=True)
    written(tmp_path / "t.safetensors", ticket)
    run = runner(tmp_path, "prune weights 20% x 1; rewind lr")
    start = run.metrics(run.measured_step("dense", 0))["sparsity"]
    assert 0.5 < start < 0.9
    (level,) = run.levels(run.study.plan.arms[0].id)
    after = run.metrics(level.structure)["sparsity"]
    assert 1 - after == pytest.approx(0.8 * (1 - start), abs=0.002)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("masks", [False, True])
def test_a_random_structure_keeps_the_counts_and_only_what_the_ticket_has(
    seed: int, masks: bool, tmp_path: Path
) -> None:
    ticket = plan_ticket(seed=seed, masks=masks)
    written(tmp_path / "t.safetensors", ticket)
    unit = "weights" if masks else "filters"
    run = runner(tmp_path, f"prune {unit} 30% x 1; rewind lr\ncompare dense, random-structure")
    (level,) = run.levels(run.study.plan.arms[0].id)
    drawn_key = run.step_labelled("random structure")
    chosen, drawn = run.structure(level.structure), run.structure(drawn_key)
    graph = run.context.dense_network(run.study.step(drawn_key)).graph
    assert is_nested(drawn, ticket.structure, graph) and drawn != chosen
    assert {n: int(k.sum()) for n, k in kept_units(graph, drawn).items()} == {
        n: int(k.sum()) for n, k in kept_units(graph, chosen).items()
    }
    if masks:
        assert drawn.masks.keys() == chosen.masks.keys()
        assert remaining_weights(graph, drawn) == remaining_weights(graph, chosen)
    initial = run.weights(run.step_labelled("initial weights of the random structure"))
    weights = next(tensor for tensor in initial.values() if tensor.dim() == 4)
    pool = next(tensor for tensor in ticket.weights.values() if tensor.dim() == 4)
    assert np.isin(weights.numpy(), pool.numpy()).all()


def test_going_back_to_init_takes_the_weights_of_the_ticket(tmp_path: Path) -> None:
    ticket = plan_ticket()
    written(tmp_path / "t.safetensors", ticket)
    run = runner(tmp_path, "prune filters 20% x 2; rewind weights to init")
    key = run.step_labelled("init")
    assert equal_states(run.weights(key), dict(ticket.weights))
    trainings = [run.study.step(level.ticket) for level in run.levels(run.study.plan.arms[0].id)]
    assert [step.parents["weights"] for step in trainings] == [key, key]


def test_random_init_and_early_have_the_structures_that_belong_to_them(tmp_path: Path) -> None:
    ticket = plan_ticket()
    written(tmp_path / "t.safetensors", ticket)
    run = runner(tmp_path, "prune filters 20% x 1; rewind lr\ncompare dense, random-init, early")
    early = run.study.step(run.measured_step("early", 1))
    assert run.structure(early.parents["structure"]) == ticket.structure
    fresh = run.study.step(run.measured_step("random-init", 1))
    shapes = {name: tensor.shape for name, tensor in run.weights(fresh.parents["weights"]).items()}
    assert all(shape[0] <= ticket.weights[name].shape[0] for name, shape in shapes.items() if shape)
    assert fresh.parents["structure"] == run.levels(run.study.plan.arms[0].id)[0].structure


def test_equal_tickets_share_steps_and_others_do_not(tmp_path: Path) -> None:
    rounds = "prune filters 20% x 1; rewind lr"
    keys = []
    for seed in (0, 0, 1):
        written(tmp_path / "t.safetensors", plan_ticket(seed=seed))
        keys.append(set(runner(tmp_path, rounds).study.graph.nodes))
    assert keys[0] == keys[1] and keys[0].isdisjoint(keys[2])


def test_a_file_that_changes_after_the_plan_was_read(tmp_path: Path) -> None:
    written(tmp_path / "t.safetensors", plan_ticket())
    run = runner(tmp_path, "prune filters 20% x 1; rewind lr")
    written(tmp_path / "t.safetensors", plan_ticket(seed=1))
    with pytest.raises(TickdslError, match="changed after the plan was read"):
        run.run_step(run.measured_step("dense", 0))


def test_other_means_and_classes_are_told(tmp_path: Path) -> None:
    ticket = plan_ticket()
    written(tmp_path / "t.safetensors", ticket, classes=tuple("abcdefghij"))
    run = runner(tmp_path, "prune filters 20% x 1; rewind lr")
    warnings: list[str] = []
    run.context.hooks.step_warning = lambda key, message: warnings.append(message)
    run.run_step(run.measured_step("dense", 0))
    assert any("another mean and deviation" in w for w in warnings)
    assert any("for other classes (a, b, c, …)" in w for w in warnings)


def test_transferred_with_a_fresh_classifier(tmp_path: Path) -> None:
    """Data with other classes get a fresh classifier, scaled to the inputs that the ticket leaves to it."""
    written(tmp_path / "t.safetensors", plan_ticket())
    text = "prune filters 20% x 1; rewind lr\ntransfer to "
    text += "synthetic size=8 channels=1 classes=4 train=64 test=32 head=reset"
    run = runner(tmp_path, text)
    weights = run.weights(run.measured_step("dense", 0))
    head = next(t for n, t in reversed(weights.items()) if n.endswith("weight"))
    assert head.shape[0] == 4
    ticket_head = next(t for n, t in reversed(plan_ticket().weights.items()) if n.endswith("weight"))
    assert head.shape[1] == ticket_head.shape[1]


def test_dense_templates_are_not_changed(tmp_path: Path) -> None:
    dense = dense_network("small-cnn", b"{}", 10, (1, 8, 8))
    before = {name: tensor.clone() for name, tensor in dense.module.state_dict().items()}
    written(tmp_path / "t.safetensors", plan_ticket())
    run = runner(tmp_path, "prune filters 20% x 1; rewind lr")
    run.run_step(run.measured_step("dense", 0))
    assert equal_states(before, dict(dense.module.state_dict()))


@pytest.mark.parametrize(
    "rounds", ["prune filters to 70% of flops; rewind lr", "prune filters to 70% of params x 2; rewind lr"]
)
def test_a_budget_counts_from_the_dense_network(tmp_path: Path, rounds: str) -> None:
    written(tmp_path / "t.safetensors", plan_ticket())
    run = runner(tmp_path, rounds)
    graph = run.context.dense_network(run.study.step(run.levels("ticket")[0].structure)).graph
    dense = cost_metrics(graph, Structure.dense(graph))
    cost = "flops" if "flops" in rounds else "params"
    last = run.metrics(run.levels("ticket")[-1].structure)["macs" if cost == "flops" else "params"]
    assert 0.7 <= 1 - last / dense[cost] < 0.76


def test_a_percentage_of_a_cost_is_one_of_the_dense_network(tmp_path: Path) -> None:
    written(tmp_path / "t.safetensors", plan_ticket())
    run = runner(tmp_path, "prune filters 20% until flops < 20%; rewind lr")
    level = run.levels("ticket")[0]
    graph = run.context.dense_network(run.study.step(level.structure)).graph
    assert level.dense_cost == cost_metrics(graph, Structure.dense(graph))
    assert run.study.step(level.dense).operation == "evaluate"
