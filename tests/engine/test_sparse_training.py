"""Plans that prune while they train, run for real: structures, weights, schedules and what follows from them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from step_runner import HEAD, StepRunner, equal_states, step_runner
from torch import Tensor

from tickdsl.engine.steps.trainings import prepare_training
from tickdsl.errors import TickdslError
from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.structure import Structure
from tickdsl.lang.meaning.sparse_training import penalty_recipe
from tickdsl.moments import Moment
from tickdsl.plan.model import Penalty
from tickdsl.pruning.criteria.protocol import masked_state

PER_EPOCH = 6  # 192 images in batches of 32


def _left(structure: Structure) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in structure.masks.items()}


def test_a_gradual_prune_is_one_level_that_its_training_measures(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune weights to 90% from 1ep to 15it every 2it\ncompare random-init")
    (level,) = found.study.levels
    assert level.structure == level.ticket
    assert found.study.step(level.ticket).operation == "train"
    metrics = found.metrics(level.ticket)
    assert metrics["sparsity"] == pytest.approx(0.9, abs=1e-3)
    assert [step for step, _, _ in metrics["changes"]] == [8, 10, 12, 14, 15]
    # The share that is gone after each step is Zhu & Gupta's.
    graph = found.context.dense_network(found.study.step(level.ticket)).graph
    total = sum(dense for _, dense in remaining_weights(graph, Structure.dense(graph)).values())
    gone = np.cumsum([removed for _, removed, _ in metrics["changes"]])
    formula = [0.9 - 0.9 * (1 - (step - 6) / 9) ** 3 for step in (8, 10, 12, 14, 15)]
    assert gone / total == pytest.approx(formula, abs=1 / total)
    weights, structure = found.weights(level.ticket), found.structure(level.ticket)
    assert equal_states(weights, dict(masked_state(graph, structure, weights)))
    # The control has the masks, and none of the weights.
    control = found.study.step(found.measured_step("random-init", 1))
    assert control.parents["structure"] == level.structure
    assert found.metrics(control.key)["sparsity"] == metrics["sparsity"]


def test_gradual_pruning_up_to_its_start_is_the_dense_training(tmp_path: Path) -> None:
    """The first change removes the smallest weights of the dense training at that step."""
    found = step_runner(
        tmp_path,
        "arm a { prune weights 1% from 5it to 7it every 1it curve=linear; rewind weights to 6it }\n"
        "arm b { prune weights 1% at 6it }",
    )
    a, b = found.levels("a")[0], found.levels("b")[0]
    at_once = found.structure(b.structure)
    gradually = found.structure(found.study.step(a.ticket).parents["structure"])
    names = [name for name in at_once.masks if name in gradually.masks]
    # Half of the amount was removed after step 6, from the very weights that arm b ranks; the rest one step later.
    half = sum(int((~gradually.masks[n] & ~at_once.masks[n]).sum()) for n in names)
    assert half >= sum(int((~mask).sum()) for mask in at_once.masks.values()) // 2 - 1


def test_what_is_recalibrated_after_a_gradual_prune_is_measured(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune weights to 80% from 1ep to 2ep every 2it; recalibrate\nreport pruned")
    (level,) = found.study.levels
    ticket = found.study.step(level.ticket)
    assert ticket.operation == "evaluate"
    assert found.study.step(ticket.parents["weights"]).operation == "recalibrate"
    assert found.study.step(level.structure).args["gradual"]["to"] == "2ep"
    assert found.metrics(level.ticket)["sparsity"] == pytest.approx(0.8, abs=1e-3)


def test_parts_that_are_pruned_gradually_overlap(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path,
        "split samples 2\nprune weights to 60% from 1it to 2ep every 1it except fc; overlap; rewind weights to init",
    )
    (level,) = found.study.levels
    overlap = found.study.step(level.structure)
    assert overlap.operation == "overlap"
    parts = [found.structure(key) for key in overlap.parents.values()]
    both = found.structure(level.structure)
    assert parts[0] != parts[1] and both == parts[0].intersect(parts[1])
    assert found.metrics(level.ticket)["sparsity"] > 0.6


def test_what_follows_a_gradual_prune_has_its_masks(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path, "cycle 2 { prune weights local 50% from 1ep to 2ep every 2it; rewind lr }\nreport accuracy, pruned"
    )
    first, second = found.study.levels
    structures = [found.structure(level.structure) for level in (first, second)]
    for name, mask in structures[1].masks.items():
        whole = mask.size
        once = whole - round(whole * 0.5)
        assert int(structures[0].masks[name].sum()) == pytest.approx(once, abs=1)
        assert int(mask.sum()) == pytest.approx(once - round(once * 0.5), abs=1)
        assert not (mask & ~structures[0].masks[name]).any()
    trained = found.study.step(second.ticket)
    assert found.study.step(trained.parents["weights"]).key == second.structure


@pytest.mark.parametrize("scope", ["global", "local", "erk"])
@pytest.mark.parametrize("by", ["magnitude", "movement", "delta", "random", "snip", "taylor"])
def test_every_criterion_ranks_gradually(tmp_path: Path, scope: str, by: str) -> None:
    found = step_runner(tmp_path, f"prune weights {scope} to 70% from 2it to 2ep every 3it by {by}")
    (level,) = found.study.levels
    metrics = found.metrics(level.ticket)
    assert metrics["sparsity"] == pytest.approx(0.7, abs=0.01)
    at_once = step_runner(tmp_path, f"prune weights {scope} to 70% by magnitude at 1ep").study.levels[0].structure
    if scope != "global":  # then the densities do not depend on the scores
        runner = step_runner(tmp_path, f"prune weights {scope} to 70% by magnitude at 1ep")
        assert _left(runner.structure(at_once)) == _left(found.structure(level.ticket))


def test_losing_weights_go_first(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune weights to 50% from 2it to 3it every 1it order=highest curve=linear")
    (level,) = found.study.levels
    weights, structure = found.weights(level.ticket), found.structure(level.ticket)
    kept = np.concatenate([np.abs(weights[n].numpy())[mask] for n, mask in structure.masks.items()])
    dense = found.weights(found.measured_step("dense", 0))
    assert kept.mean() < 0.5 * np.mean([np.abs(dense[n].numpy()).mean() for n in structure.masks]) + 0.05


# -- evolve


@pytest.mark.parametrize("grow", ["gradient", "random", "momentum"])
def test_evolving_masks_keep_the_weights_of_every_layer(tmp_path: Path, grow: str) -> None:
    """And the next prune starts from the masks that the training ended with."""
    found = step_runner(
        tmp_path, f"prune weights 40% x 2; rewind lr; evolve weights 30% grow={grow} every=3it until=2ep\nreport pruned"
    )
    first, second = found.study.levels
    assert first.structure == first.ticket
    pruned = found.study.step(first.ticket).parents["structure"]
    before, after = found.structure(pruned), found.structure(first.ticket)
    assert _left(before) == _left(after) and before != after
    metrics = found.metrics(first.ticket)
    assert [step for step, _, _ in metrics["changes"]] == [3, 6, 9]
    limits = [
        sum(int(0.3 / 2 * (1 + math.cos(math.pi * step / 12)) * kept) for kept in _left(before).values())
        for step in (3, 6, 9)
    ]
    assert all(left <= limit for (_, left, _), limit in zip(metrics["changes"], limits, strict=True))
    next_prune = found.study.step(found.study.step(second.ticket).parents["structure"])
    assert next_prune.parents["structure"] == first.ticket == next_prune.parents["weights"]
    then = found.structure(next_prune.key)
    assert all(not (mask & ~after.masks[name]).any() for name, mask in then.masks.items() if name in after.masks)
    # `report pruned` is about the mask of the prune.
    (measured, _) = (m.step for m in found.study.measurements if m.report_metric == "pruned")
    assert found.study.step(measured).parents["structure"] == pruned


def test_evolving_a_network_without_some_filters_maps_masks_back(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path,
        "prune filters 40% by random at init\nprune weights 50% by random at init; evolve weights 50% every=2it",
    )
    level = found.study.levels[-1]
    before = found.structure(found.study.step(level.ticket).parents["structure"])
    after = found.structure(level.ticket)
    assert {name: units.tolist() for name, units in before.kept.items()} == {
        name: units.tolist() for name, units in after.kept.items()
    }
    graph = found.context.dense_network(found.study.step(level.ticket)).graph
    assert remaining_weights(graph, before) == remaining_weights(graph, after)
    assert before != after
    state = found.weights(level.ticket)
    assert equal_states(state, dict(masked_state(graph, after, state)))


def test_steps_are_shared_and_named_by_what_they_do(tmp_path: Path) -> None:
    def keys(text: str) -> set[str]:
        return set(step_runner(tmp_path, text).study.graph)

    shared = "prune weights 80% by random at init"
    assert len(keys(f"arm a {{ {shared} }}\narm b {{ {shared}; evolve weights 30% every=2it }}")) == 5
    base = keys(f"{shared}; evolve weights 30% every=2it until=50%")
    assert keys(f"{shared}; evolve weights 30% every=2it until=1.5ep") == base
    assert keys(f"{shared}; evolve weights 30% every=2it until=50% grow=random") != base
    gradual = keys("prune weights to 90% from 1ep to 2ep every 2it")
    assert keys("prune weights to 90% from 1ep to 2ep every 2it curve=cubic by magnitude") == gradual
    assert keys("prune weights to 90% from 1ep to 2ep every 3it") != gradual


# -- grow


def test_dense_sparse_dense(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune weights 50%; rewind lr; grow weights all; retrain fine-tune 1ep lr=0.01")
    (level,) = found.study.levels
    last = found.study.step(level.ticket)
    grown = found.study.step(last.parents["structure"])
    assert grown.operation == "grow" and not found.structure(grown.key).masks
    sparse = last.parents["weights"]
    assert found.metrics(sparse)["sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert found.metrics(level.ticket)["sparsity"] == 0
    # What came back starts at 0.
    module = prepare_training(last, found.context, {}).job.model
    zeros = sum(int((p == 0).sum()) for n, p in module.named_parameters() if p.dim() > 1)
    total = sum(p.numel() for p in module.parameters() if p.dim() > 1)
    assert zeros == pytest.approx(total / 2, abs=2)


@pytest.mark.parametrize("by", ["magnitude", "gradient", "random"])
def test_what_comes_back_ranks_highest(tmp_path: Path, by: str) -> None:
    found = step_runner(tmp_path, f"prune weights 50%; grow weights 10% by {by}; rewind lr")
    (level,) = found.study.levels
    grown = found.study.step(level.structure)
    before, after = found.structure(grown.parents["structure"]), found.structure(grown.key)
    pruned = sum(int((~mask).sum()) for mask in before.masks.values())
    back = {n: after.masks.get(n, np.ones_like(mask)) & ~mask for n, mask in before.masks.items()}
    assert sum(int(mask.sum()) for mask in back.values()) == round(0.1 * pruned)
    assert all((after.masks.get(n, np.ones_like(mask)) | ~mask).all() for n, mask in before.masks.items())
    if by == "magnitude":
        weights = found.weights(found.measured_step("dense", 0))
        came = np.concatenate([np.abs(weights[n].numpy())[mask] for n, mask in back.items()])
        stayed = np.concatenate([np.abs(weights[n].numpy())[~after.masks[n]] for n in back if n in after.masks])
        assert came.min() >= stayed.max()
        # Without a training in between they have their old values again.
        module = prepare_training(found.study.step(level.ticket), found.context, {}).job.model
        state = dict(module.named_parameters())
        for name, mask in back.items():
            assert torch.equal(state[name][torch.tensor(mask)], weights[name][torch.tensor(mask)])


def test_a_grow_of_too_many_weights_is_an_error(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune weights 10%; grow weights 4000; rewind lr")
    with pytest.raises(TickdslError, match="puts back more than"):
        found.run_step(found.study.levels[0].ticket)


# -- by delta, penalties, soft pruning


def test_delta_removes_what_changed_least(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune weights 50% x 2 by delta; rewind lr")
    first = found.study.step(found.study.levels[0].structure)
    start, end = found.weights(found.step_labelled("init")), found.weights(found.measured_step("dense", 0))
    masks = found.structure(first.key).masks
    changes = {name: (end[name] - start[name]).abs().numpy() for name in masks}
    assert min(changes[n][m].min() for n, m in masks.items()) >= max(changes[n][~m].max() for n, m in masks.items())
    second = found.study.step(found.study.levels[1].structure)
    assert second.parents["origin"] == first.parents["origin"]


def test_a_penalty_shrinks_what_is_removed(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path, "prune weights local 60% by random at init via penalty step=0.5 every=1it to=5 hold=20it lr=0.05"
    )
    (level,) = found.study.levels
    penalised = found.study.step(found.study.step(level.ticket).parents["weights"])
    assert penalised.args["recipe"]["length"] == "30it" and "structure" not in penalised.parents
    assert penalised.parents["cut"] == level.structure
    before = found.weights(penalised.parents["weights"])
    after, masks = found.weights(penalised.key), found.structure(level.structure).masks

    def size(state: dict[str, Tensor], pruned: bool) -> float:
        return float(sum(state[n][torch.tensor(m != pruned)].abs().sum() for n, m in masks.items()))

    assert size(after, pruned=True) < 0.1 * size(before, pruned=True)
    assert size(after, pruned=False) > 0.5 * size(before, pruned=False)
    assert found.metrics(level.ticket)["sparsity"] == pytest.approx(0.6, abs=0.01)


def test_the_penalty_of_rst_takes_90_000_steps() -> None:
    """Bai et al. 2022: the factor grows by 1e-4 every 5 steps up to 1, and is held for 40,000 steps."""
    penalty = Penalty(1e-4, Moment.parse("5it"), 1.0, Moment.parse("40000it"))
    base = {"length": "200ep", "lr": 0.1, "decay": 5e-4, "milestones": ["100ep"], "schedule": "milestones"}
    recipe = penalty_recipe(penalty, base, lr=0.001, batch=64)
    assert recipe == {"length": "90000it", "lr": 0.001, "batch": 64, "decay": 5e-4}


def test_a_power_of_the_penalty_is_an_argument_of_its_training_alone(tmp_path: Path) -> None:
    prune = "prune weights local 30% by random at init via penalty step=0.5 every=1it to=1 hold=2it"
    studies = [step_runner(tmp_path, f"{prune}{power}").study for power in ("", " power=1", " power=3")]
    assert set(studies[0].graph) == set(studies[1].graph)
    trained = [study.step(study.step(study.levels[0].ticket).parents["weights"]) for study in studies]
    assert trained[2].args["penalty"] == {**trained[0].args["penalty"], "power": 3}
    assert trained[2].args["recipe"] == trained[0].args["recipe"]


def test_a_training_with_a_penalty_has_the_recipe_but_for_its_rate_and_its_end() -> None:
    penalty = Penalty(1e-2, Moment.parse("5it"), 1.0, Moment.parse("10it"))
    kept = {
        "optimizer": "adam", "lr": 0.01, "batch": 32, "beta1": 0.8, "beta2": 0.99, "decay": 1e-4, "augment": ["flip"],
        "clip": 1.0, "accumulate": 2, "ema": 0.99, "loss": "focal",
        "class_weights": "balanced", "sampling": "balanced",
    }  # fmt: skip
    shape = {"schedule": "cosine", "warmup": "1ep", "bn_l1": 0.1, "patience": "2ep"}
    recipe = penalty_recipe(penalty, {**kept, **shape, "length": "20ep"})
    assert recipe == {**kept, "length": "510it"}


def test_rounds_of_a_penalty_refine_one_selection(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path, "prune weights local 30% x 2 by random at init via penalty step=0.5 every=1it to=1 hold=2it"
    )
    (level,) = found.study.levels
    second = found.study.step(level.structure)
    assert found.study.step(second.parents["weights"]).args["penalty"] == {"step": 0.5, "every": "1it", "to": 1.0}
    assert found.metrics(level.ticket)["sparsity"] == pytest.approx(1 - 0.7**2, abs=0.02)


def test_soft_filter_pruning_removes_what_it_zeroed_last(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune filters local 25% by l2 via zeroing every=1ep; rewind lr")
    (level,) = found.study.levels
    prune_step = found.study.step(level.structure)
    soft = found.study.step(prune_step.parents["weights"])
    assert [step for step, _, _ in found.metrics(soft.key)["changes"]] == [6, 12, 18]
    state, structure = found.weights(soft.key), found.structure(level.structure)
    graph = found.context.dense_network(soft).graph
    for group in graph.channels:
        kept = structure.kept.get(group.name)
        if kept is None:
            continue
        for group_slice in group.slices:
            if group_slice.role == "producer" and len(graph.parameters[group_slice.parameter]) > 1:
                removed = np.setdiff1d(group_slice.index, kept)
                assert not state[group_slice.parameter][torch.tensor(removed)].any()


def test_the_barrier_between_trainings_with_masks_of_their_own_leads_through_dense_networks(tmp_path: Path) -> None:
    """So both ends of the line are the tickets as they are (without batch norm, statistics do not matter)."""
    head = HEAD.replace("small-cnn width=0.5", "lenet-300-100 width=0.2")
    found = step_runner(tmp_path, "prune weights to 80% from 2it to 9it every 2it\nreport accuracy, barrier", head=head)
    (line,) = (m.step for m in found.study.measurements if m.report_metric == "barrier" and m.contestant == "ticket")
    figures, ends = found.metrics(line)["figures"], found.study.step(line).parents
    for point, role in (("01", "weights"), ("30", "other")):
        assert figures[f"barrier.error.{point}"] == pytest.approx(1 - found.metrics(ends[role])["accuracy"], abs=1e-6)
    assert found.structure(ends["weights"]) != found.structure(ends["other"])


# -- what it costs


def _dense(found: StepRunner) -> str:
    return next(m.step for m in found.study.measurements if m.contestant == "dense")


def test_the_multiply_adds_of_training_count_what_is_left(tmp_path: Path) -> None:
    """By hand, on a network of two linear layers: 3 × weights left × images, at every step what is left then."""
    head = "model lenet-300-100 width=0.2\ndata synthetic size=8 train=192 test=64\ntrain 3ep lr=0.05 batch=32\n"
    text = "{}\nreport accuracy, train-flops"

    def macs(plan: str) -> tuple[int, dict[str, int], int]:
        found = step_runner(tmp_path, text.format(plan), head=head)
        level = found.study.levels[-1]
        metrics, structure = found.metrics(level.ticket), found.structure(level.ticket)
        return metrics["train_macs"], _left(structure), metrics["path_macs"]

    dense = step_runner(tmp_path, text.format("prune weights 50% at init"), head=head)
    graph = dense.context.dense_network(dense.study.step(_dense(dense))).graph
    total = sum(int(np.prod(info.shape)) for info in graph.weights.values())
    assert dense.metrics(_dense(dense))["train_macs"] == 3 * total * 576
    static = dense.metrics(dense.study.levels[0].ticket)["train_macs"]
    assert static == pytest.approx(3 * total * 576 / 2, rel=1e-3)
    # SET costs what static training costs; RigL the gradients of all weights at each of its exchanges.
    start = "prune weights 50% by random at init; evolve weights 30% grow={} every=4it until=13it"
    set_macs, left, _ = macs(start.format("random"))
    assert set_macs == 3 * sum(left.values()) * 576
    rigl, left, _ = macs(start.format("gradient"))
    assert rigl == 3 * sum(left.values()) * 576 + 3 * 32 * (total - sum(left.values()))
    snfs, left, _ = macs(start.format("momentum"))
    assert snfs == (2 * sum(left.values()) + total) * 576
    # Gradually: each part of the training with the weights that are left in it.
    gradual, _, _ = macs("prune weights to 80% from 6it to 12it every 3it curve=linear")
    by_hand = 3 * 32 * (9 * total + 3 * (total - round(0.4 * total)) + 6 * (total - round(0.8 * total)))
    assert gradual == pytest.approx(by_hand, rel=1e-6)


def test_all_trainings_that_lead_to_a_ticket_count_once(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune weights 50% x 2; rewind weights to 1ep\nreport train-flops")
    first, second = (found.metrics(level.ticket) for level in found.study.levels)
    dense = found.metrics(_dense(found))["train_macs"]
    assert first["path_macs"] == dense + first["train_macs"]  # the rewind point is part of the dense training
    assert second["path_macs"] == dense + first["train_macs"] + second["train_macs"]
    measured = [m for m in found.study.measurements if m.report_metric == "train-flops"]
    assert {m.step for m in measured} == {_dense(found), *(v.ticket for v in found.study.levels)}
