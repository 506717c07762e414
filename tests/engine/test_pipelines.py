"""Retraining, distillation, transfer, matched amounts and early ends, run for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from step_runner import HEAD, equal_states, step_runner

from tickdsl.engine.building import trace_model
from tickdsl.engine.steps.network_size import structure_metrics
from tickdsl.engine.steps.trainings import prepare_training
from tickdsl.errors import TickdslError
from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import slice_state_dict
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.prune_arguments import prune_args
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.criteria.protocol import masked_state
from tickdsl.pruning.selection import prune
from tickdsl.training.data.batch_stream import BatchStream
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.data.sample import sample_batches
from tickdsl.training.evaluation import evaluate
from tickdsl.training.models import create
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch
from tickdsl.training.rng import generator

CPU = torch.device("cpu")


@pytest.mark.parametrize("schedule", ["fine-tune", "scaled", "one-cycle", "cyclic", "linear", "scratch"])
def test_a_retraining_takes_the_rates_of_its_schedule(tmp_path: Path, schedule: str) -> None:
    found = step_runner(tmp_path, f"prune filters 40%; retrain {schedule} 4ep")
    ticket = found.study.levels[0].ticket
    recipe = Recipe.from_dict(found.study.step(ticket).args["recipe"])
    per_epoch = steps_per_epoch(192, 32)
    metrics = found.metrics(ticket)
    seen = [epoch[4] for epoch in metrics["epochs"]]
    assert seen == pytest.approx(list(recipe.learning_rates(per_epoch)[per_epoch - 1 :: per_epoch]))
    assert len(seen) == 4
    accuracies = [epoch[3] for epoch in metrics["epochs"]]
    assert metrics["best_accuracy"] == max(accuracies) == accuracies[metrics["best_epoch"] - 1]
    assert metrics["accuracy"] == accuracies[-1]


def test_every_round_of_a_retraining_shows_the_images_in_another_order(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune weights 20% x 3; retrain fine-tune 1ep")
    seeds = []
    for step in map(found.study.step, [found.measured_step("dense", 0), *(lv.ticket for lv in found.study.levels)]):
        for parent in step.parents.values():
            found.run_step(parent)
        seeds.append(prepare_training(step, found.context, {}).job.seed)
    data = DeviceDataset(found.context.dataset(step.args["data"], 1), Recipe.from_dict(step.args["recipe"]), CPU)
    orders = {tuple(BatchStream(data, [seed]).batch(0).indices.tolist()) for seed in seeds}
    assert len(orders) == 4


def test_a_student_learns_from_the_dense_network_of_its_seed(tmp_path: Path) -> None:
    text = "seeds 2\narm kd { prune weights 60%; rewind weights; distill from dense temperature=3 }\n"
    found = step_runner(tmp_path, text + "arm plain { prune weights 60%; rewind weights }")
    for seed in (1, 2):
        (level,) = found.levels("kd", seed)
        step = found.study.step(level.ticket)
        assert step.parents["teacher"] == found.measured_step("dense", 0, "kd", seed)
        assert step.args["distill"] == {"temperature": 3.0, "weight": 0.9}
    assert not equal_states(found.weights(found.levels("kd")[0].ticket), found.weights(found.levels("plain")[0].ticket))


def test_a_teacher_may_be_a_smaller_network_of_another_kind(tmp_path: Path) -> None:
    text = "arm big { model conv3 width=0.1; prune filters 30% x 2; rewind lr }\n"
    found = step_runner(
        tmp_path, text + "arm kd { prune filters 50%; rewind lr; distill from big until=2ep }\ncompare kd"
    )
    assert [arm.name for arm in found.study.plan.arms] == ["kd"]
    (level,) = found.study.levels
    teacher = found.study.step(found.study.step(level.ticket).parents["teacher"])
    assert teacher.args["model"]["name"] == "conv3"
    found.run_step(level.ticket)


def test_teachers_that_learn_from_each_other_are_refused() -> None:
    arms = "arm a { prune weights 20%; rewind lr; distill from b }\narm b { prune weights matching a; rewind lr }"
    codes = [d.code for d in resolve(load_source(Source("x.plan", HEAD + arms))).diagnostics]
    assert "TD510" in codes


# -- transfer

MOVE = "transfer to synthetic size=8 train=128 test=32 classes=5"


@pytest.mark.parametrize("unit", ["weights", "filters"])
def test_a_ticket_on_other_data_keeps_its_structure_and_weights_and_has_a_fresh_head(tmp_path: Path, unit: str) -> None:
    found = step_runner(tmp_path, f"prune {unit} 30% x 2; rewind weights to 1ep; {MOVE}")
    assert len(found.study.levels) == 2
    heads = []
    for level in found.study.levels:
        ticket = found.study.step(level.ticket)
        assert ticket.args["data"]["options"]["classes"] == 5
        assert ticket.args["start"] == "1ep"
        carried = found.study.step(ticket.parents["weights"])
        assert carried.operation == "transfer"
        state = found.weights(carried.key)
        found.weights(carried.parents["weights"])
        graph = found.context.dense_network(ticket).graph
        structure = found.context.structure(level.structure, graph)
        source = found.context.weights(carried.parents["weights"], structure, graph)
        assert all(torch.equal(state[name], source[name]) for name in state if not name.startswith("fc."))
        assert state["fc.weight"].shape[0] == 5
        heads.append(state["fc.weight"])
        found.run_step(level.ticket)
        left = remaining_weights(graph, structure)
        assert left["fc.weight"][0] == left["fc.weight"][1] or unit == "filters"
        assert sum(part for part, _ in left.values()) < sum(whole for _, whole in left.values())
    assert torch.equal(heads[0], heads[1]) or unit == "filters"


@pytest.mark.parametrize("tail", ["rewind lr", "rewind weights to init", "retrain scratch"])
def test_a_new_head_is_drawn_for_the_inputs_that_are_left(tmp_path: Path, tail: str) -> None:
    """Kaiming normal for the fan-in of the pruned head; the weights of a slice of the dense one are half as large."""
    found = step_runner(tmp_path, f"prune filters local 75%; {tail}; {MOVE}")
    (level,) = found.study.levels
    head = found.weights(found.study.step(found.study.step(level.ticket).parents["weights"]).key)["fc.weight"]
    assert head.shape[1] < 10
    assert float(head.std()) == pytest.approx((2 / head.shape[1]) ** 0.5, rel=0.2)
    dense = found.weights(found.study.step(found.measured_step("dense", 0)).parents["weights"])["fc.weight"]
    assert float(dense.std()) == pytest.approx((2 / dense.shape[1]) ** 0.5, rel=0.2)


def test_a_new_head_is_not_that_of_the_weights_file(tmp_path: Path) -> None:
    """Even if the other data has as many classes as the file."""
    path = tmp_path / "trained.safetensors"
    save_file(dict(create("small-cnn", classes=5, shape=(3, 8, 8), seed=9, options={"width": 0.5}).state_dict()), path)
    head = HEAD.replace("width=0.5", f'width=0.5 weights="{path}"').replace("size=8", "size=8 classes=5")
    found = step_runner(tmp_path, f"prune weights 30%; rewind weights to pretrained; {MOVE}", head)
    (level,) = found.study.levels
    carried = found.study.step(found.study.step(level.ticket).parents["weights"])
    loaded, moved = found.weights(carried.parents["weights"]), found.weights(carried.key)
    assert {name for name in moved if not torch.equal(moved[name], loaded[name])} == {"fc.weight"}


def test_dense_and_controls_are_trained_on_the_target_data(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path, f"prune weights 30%; rewind weights; {MOVE}\ncompare random-init, random-structure, early"
    )
    for m in found.study.measurements:
        assert found.study.step(m.step).args["data"]["options"]["classes"] == 5
        assert found.metrics(m.step)["accuracy"] >= 0


def test_a_kept_head_comes_along(tmp_path: Path) -> None:
    move = "transfer to synthetic size=8 train=128 test=32 head=keep { retrain fine-tune 1ep }"
    found = step_runner(tmp_path, f"prune weights 30%; rewind lr; {move}")
    (level,) = found.study.levels
    ticket = found.study.step(level.ticket)
    assert found.study.step(ticket.parents["weights"]).args["data"]["options"]["train"] == 192
    assert ticket.args["recipe"]["length"] == "1ep"
    found.run_step(level.ticket)


def test_the_second_phase_of_colt(tmp_path: Path) -> None:
    """Overlap of two halves, initial weights, a fresh head shared by all tickets, full training on the target."""
    found = step_runner(tmp_path, f"split classes 2; prune weights 30% x 2; overlap; rewind weights to init; {MOVE}")
    for level in found.study.levels:
        ticket = found.study.step(level.ticket)
        carried = found.study.step(ticket.parents["weights"])
        assert found.study.step(carried.parents["weights"]).operation == "init"
        assert "part" not in ticket.args["data"]
        found.run_step(level.ticket)
    initial = found.weights(found.study.step(found.measured_step("dense", 0)).parents["weights"])
    assert equal_states(found.weights(carried.key), initial)  # one initialisation per seed, on any data set


# -- amounts


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("unit", ["filters", "weights"])
def test_matching_removes_what_the_other_arm_removed(tmp_path: Path, scope: str, unit: str) -> None:
    text = f"arm a {{ prune {unit} {scope} 30% x 2; rewind lr }}\n"
    found = step_runner(tmp_path, text + f"arm b {{ prune {unit} {scope} matching a by random; rewind lr }}")
    ours, theirs = found.levels("b"), found.levels("a")
    assert len(ours) == len(theirs) == 2
    for one, other in zip(ours, theirs, strict=True):
        first, second = found.structure(one.structure), found.structure(other.structure)
        assert first != second
        graph = found.context.dense_network(found.study.step(one.structure)).graph
        sizes = [
            {name: len(units) for name, units in each.kept.items()} | {name: m.sum() for name, m in each.masks.items()}
            for each in (first, second)
        ]
        if scope == "local":
            assert sizes[0] == sizes[1]
        else:
            totals = [
                structure_metrics(graph, each)["filters" if unit == "filters" else "sparsity"]
                for each in (first, second)
            ]
            assert totals[0] == pytest.approx(totals[1], abs=1e-12)


def test_matching_an_arm_that_removes_other_units_says_so(tmp_path: Path) -> None:
    text = "arm a { prune weights 30%; rewind lr }\narm b { prune filters matching a; rewind lr }"
    found = step_runner(tmp_path, text)
    with pytest.raises(TickdslError, match="removes no more filters"):
        found.run_step(found.levels("b")[0].structure)


def test_stages_lose_their_own_shares(tmp_path: Path) -> None:
    head = HEAD.replace("small-cnn width=0.5", "resnet20 width=0.5")
    found = step_runner(tmp_path, 'prune filters local [50%, 25%, 0%] at init in "layer*.*.conv1"', head)
    structure = found.structure(found.study.levels[0].structure)
    kept = {name: len(units) for name, units in structure.kept.items()}
    assert kept == {f"layer{s}.{b}.conv1": n for s, n in ((1, 4), (2, 12)) for b in range(3)}


def test_per_layer_rates_give_the_published_labels() -> None:
    """Frankle & Carbin 2019: 20% of the hidden and 10% of the output weights per round."""
    graph = trace_model("lenet-300-100", b"{}", 10, (1, 28, 28))
    both = "prune weights local 20% in fc1, fc2; prune weights local 10% in fc3"
    text = f"model lenet-300-100 on mnist\ncycle 15 {{ {both}; rewind weights }}"
    plan = resolve(load_source(Source("x.plan", text))).plan
    assert plan is not None
    state = create("lenet-300-100", classes=10, shape=(1, 28, 28), seed=1).state_dict()
    structure, labels = Structure.dense(graph), []
    for group in plan.arms[0].rounds:
        masked = slice_state_dict(graph, dict(state), Structure.dense(graph), structure)
        seen = ScoringContext(graph, structure, masked, torch.Generator().manual_seed(0))
        structure = prune(seen, prune_args(group.prune, 0, 1, head=False))
        if not group.joined:
            left = remaining_weights(graph, structure)
            labels.append(round(100 * sum(a for a, _ in left.values()) / sum(b for _, b in left.values()), 1))
    assert len(labels) == 15
    assert [labels[n - 1] for n in (1, 3, 7, 9, 12, 15)] == [80.0, 51.3, 21.1, 13.5, 7.0, 3.6]


# -- budgets


def test_fresh_weights_with_the_dense_budget_train_longer(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune filters 50%; rewind lr\ncompare random-init, early budget=flops")
    (level,) = found.study.levels
    graph = found.context.dense_network(found.study.step(level.structure)).graph
    dense, left = (
        structure_metrics(graph, s)["macs"] for s in (Structure.dense(graph), found.structure(level.structure))
    )
    fresh = found.metrics(found.measured_step("random-init", 1))
    assert len(fresh["epochs"]) == int(3 * dense / left) > 3
    early = found.metrics(found.measured_step("early", 1))
    assert len(early["epochs"]) == max(1, int(3 * left / dense)) < 3
    assert early["sparsity"] == 0
    equal_epochs = step_runner(tmp_path, "prune filters 50%; rewind lr\ncompare random-init")
    assert len(equal_epochs.metrics(equal_epochs.measured_step("random-init", 1))["epochs"]) == 3


@pytest.mark.parametrize("unit", ["filters", "weights"])
def test_recalibrated_statistics_are_those_of_the_pruned_network(tmp_path: Path, unit: str) -> None:
    found = step_runner(tmp_path, f"prune {unit} 50%; recalibrate; rewind weights\nreport accuracy, pruned")
    (level,) = found.study.levels
    (pruned,) = (found.study.step(m.step) for m in found.study.measurements if m.report_metric == "pruned")
    recalibrated = found.weights(pruned.parents["weights"])
    step = found.study.step(pruned.parents["weights"])
    network, structure = found.context.dense_network(step), found.structure(level.structure)
    before = found.context.weights(step.parents["weights"], structure, network.graph)
    module = found.context.module(network, structure, masked_state(network.graph, structure, before))
    data = found.context.dataset(step.args["data"], None)
    images = sample_batches(data, generator(1, "recalibrate"), total=2000, batch=250)
    torch.optim.swa_utils.update_bn([batch for batch, _ in images], module)
    torch.testing.assert_close(recalibrated, dict(module.state_dict()))
    expected = evaluate(module, data.test_inputs, data.test_targets, preprocess=data.preprocess())
    figures = found.metrics(pruned.key)["figures"]
    assert figures == pytest.approx({"pruned": expected.accuracy, "pruned.loss": expected.loss})
    assert not equal_states(found.weights(found.study.step(level.ticket).parents["weights"]), recalibrated)


def test_a_control_may_have_the_images_of_all_rounds(tmp_path: Path) -> None:
    text = "prune weights 30% x 2; rewind weights to 1ep\ncompare random-init, random-structure budget=total"
    found = step_runner(tmp_path, text)
    arm = found.study.plan.arms[0].id
    rounds = {1: 3 + 2, 2: 3 + 2 + 2}  # epochs: dense, and from the rewinding point on
    for level, epochs in rounds.items():
        for control in ("random-init", "random-structure"):
            metrics = found.metrics(found.measured_step(control, level, arm))
            assert (metrics["passes"], metrics["images"]) == (epochs, epochs * 192)


def test_a_condition_ends_the_rounds(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune weights 40% until sparsity >= 60%; rewind lr")
    assert len(found.study.levels) > 5
    assert all(level.ends is not None and level.until is None for level in found.study.levels)
    assert not np.isnan(found.metrics(found.study.levels[0].ticket)["accuracy"])


# -- pretrained weights


def test_a_plan_that_begins_with_weights_of_a_file(tmp_path: Path) -> None:
    files = [tmp_path / "a.safetensors", tmp_path / "b" / "c.safetensors"]
    state = create("small-cnn", classes=10, shape=(3, 8, 8), seed=9, options={"width": 0.5}).state_dict()
    keys = []
    for path in files:
        path.parent.mkdir(exist_ok=True)
        save_file(dict(state), path)
        head = HEAD.replace("width=0.5", f'width=0.5 weights="{path}"')
        found = step_runner(tmp_path, "prune weights 30%; rewind weights to pretrained\ncompare random-init", head)
        keys.append(set(found.study.graph))
    assert keys[0] == keys[1]  # the key depends on the content of the file
    (level,) = found.study.levels
    start = found.study.step(level.ticket).parents["weights"]
    assert equal_states(found.weights(start), dict(state))
    fresh = found.study.step(found.measured_step("random-init", 1)).parents["weights"]
    plain = step_runner(tmp_path, "prune weights 30%; rewind weights\ncompare random-init")
    assert not torch.equal(found.weights(fresh)["conv1.weight"], state["conv1.weight"])
    assert (
        found.weights(fresh)["conv1.weight"].shape == plain.weights(plain.step_labelled("init"))["conv1.weight"].shape
    )
    save_file({**state, "conv1.weight": -state["conv1.weight"]}, files[1])
    assert not keys[1] & set(step_runner(tmp_path, "prune weights 30%; rewind weights", head).study.graph)


@pytest.mark.parametrize("text", ["rewind weights to pretrained", "rewind lr to pretrained"])
def test_pretrained_needs_weights_from_elsewhere(text: str) -> None:
    codes = [d.code for d in resolve(load_source(Source("x.plan", HEAD + f"prune weights 20%; {text}"))).diagnostics]
    assert "TD105" in codes
