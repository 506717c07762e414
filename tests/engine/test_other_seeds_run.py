"""Plans whose seeds take from each other, add noise and train in cycles, run step by step."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from step_runner import StepRunner, step_runner

from tickdsl.engine.scheduler.event_builders import measure_event, plan_resolved_event
from tickdsl.graph.structure import Structure
from tickdsl.pruning.criteria.protocol import masked_state
from tickdsl.training.data.sample import sample_batches
from tickdsl.training.rng import generator


def _left(found: StepRunner, key: str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(mask.copy()) for name, mask in found.structure(key).masks.items()}


def test_a_ticket_of_one_seed_is_trained_on_the_network_of_another(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path,
        "seeds 2\narm own { prune weights 50% x 2; rewind weights to 1ep }\n"
        "arm other { prune weights 50% x 2; rewind mask of next seed; rewind weights to 1ep }\n"
        "compare own, other\nreport accuracy, mask-overlap, sign-agreement, distance",
    )
    taken = found.levels("other", 1)
    assert taken[0].structure == found.levels("own", 2)[0].structure
    ticket = found.study.step(taken[0].ticket)
    own = found.study.step(found.levels("own", 1)[0].ticket)
    assert ticket.parents["weights"] == own.parents["weights"]
    trained, masks = found.weights(taken[0].ticket), _left(found, taken[0].structure)
    assert all(not trained[name][~mask].any() and trained[name][mask].all() for name, mask in masks.items())
    # In the second round, what the own mask had removed is 0, and what both have left is trained on.
    (second,) = (level for level in taken if level.level == 2)
    assert found.metrics(second.structure)["sparsity"] == pytest.approx(0.75, abs=1e-3)
    found.run_step(second.ticket)


def test_signs_of_another_seed_are_put_on_the_own_magnitudes(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "seeds 2\nprune weights 50%; rewind mask of next seed; rewind signs of next seed")
    (level,) = found.levels("ticket", 1)
    start = found.study.step(found.study.step(level.ticket).parents["weights"])
    assert start.operation == "mix" and start.seed is None
    mixed, own, other = (found.weights(key) for key in (start.key, start.parents["weights"], start.parents["origin"]))
    for name, mask in _left(found, level.structure).items():
        assert torch.equal(mixed[name].abs(), own[name].abs() * mask)
        assert torch.equal(mixed[name][mask].sign(), other[name][mask].sign())
    found.run_step(level.ticket)


def test_an_aligned_mask_belongs_to_the_permuted_network(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path,
        "seeds 2\nprune weights 50%; rewind mask of next seed align=dense; "
        "rewind weights of next seed to 1ep align=dense",
    )
    (level,) = found.levels("ticket", 1)
    metrics = found.metrics(level.structure)
    assert metrics["sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert set(metrics["matched"]) == {"conv1", "conv2", "conv3"} and any(metrics["matched"].values())
    theirs = found.study.step(level.structure).parents["structure"]
    counts = [{name: int(mask.sum()) for name, mask in _left(found, key).items()} for key in (level.structure, theirs)]
    assert counts[0] == counts[1]
    weights = found.study.step(level.ticket).parents["weights"]
    assert found.study.step(weights).operation == "align"
    # Masked weights have the same values, in another order.
    graph = found.context.dense_network(found.study.step(weights)).graph
    moved = masked_state(graph, found.structure(level.structure), found.weights(weights))
    before = masked_state(graph, found.structure(theirs), found.weights(found.study.step(weights).parents["weights"]))
    for name in graph.weights:
        assert torch.equal(moved[name].flatten().sort().values, before[name].flatten().sort().values)
    found.run_step(level.ticket)


def test_an_aligned_ticket_of_filters_keeps_the_matched_ones(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path,
        "seeds 2\nprune filters 40%; rewind mask of next seed align=dense; "
        "rewind weights of next seed to 1ep align=dense",
    )
    (level,) = found.levels("ticket", 1)
    theirs = found.study.step(level.structure).parents["structure"]
    mine, kept = found.structure(level.structure), found.structure(theirs)
    assert found.metrics(level.structure)["params"] == found.metrics(theirs)["params"]
    moved = {name for name in kept.kept if not np.array_equal(mine.kept[name], kept.kept[name])}
    assert mine.kept.keys() == kept.kept.keys() and moved
    # The weights of the units that are left are theirs, in another order.
    graph = found.context.dense_network(found.study.step(level.structure)).graph
    weights = found.study.step(level.ticket).parents["weights"]
    found.weights(weights)
    left = found.context.weights(weights, mine, graph)
    before = found.context.weights(found.study.step(weights).parents["weights"], kept, graph)
    assert left.keys() == before.keys()
    for name in graph.weights:
        assert torch.equal(left[name].flatten().sort().values, before[name].flatten().sort().values)
    found.run_step(level.ticket)


def test_units_are_matched_by_the_activations_of_the_dense_networks(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path,
        "seeds 2\narm weights { prune weights 50%; rewind mask of next seed align=dense; rewind weights to 1ep }\n"
        "arm activations { prune weights 50%; rewind mask of next seed align=dense match=activations images=200;"
        " rewind weights to 1ep }\n",
    )
    keys = {arm: found.levels(arm, 1)[0].structure for arm in ("weights", "activations")}
    metrics = {arm: found.metrics(key) for arm, key in keys.items()}
    assert metrics["activations"]["matched"].keys() == metrics["weights"]["matched"].keys()
    assert metrics["activations"]["sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert found.structure(keys["activations"]) != found.structure(keys["weights"])
    # As computed here, from what the layers read on the same images.
    step = found.study.step(keys["activations"])
    network = found.context.dense_network(step)
    data = found.context.dataset(step.args["data"], 1)
    ((inputs, _),) = sample_batches(data, generator(1, "align"), total=200, batch=200)
    read = []
    for role in ("own", "other"):
        module = copy.deepcopy(network.module).eval()
        module.load_state_dict(found.context.weights(step.parents[role], Structure.dense(network.graph), network.graph))
        seen: dict[str, torch.Tensor] = {}
        for path in ("conv2", "conv3"):
            module.get_submodule(path).register_forward_hook(
                lambda _, arguments, __, path=path, seen=seen: seen.__setitem__(path, arguments[0].detach())
            )
        module(inputs)
        read.append(seen)
    theirs, mine = found.structure(step.parents["structure"]).masks, found.structure(step.key).masks
    orders = []
    for path in ("conv2", "conv3"):
        own, other = (each[path].double().movedim(1, 0).flatten(1).numpy() for each in read)
        gains = np.nan_to_num(np.corrcoef(own, other)[: len(own), len(own) :])
        orders.append(linear_sum_assignment(gains, maximize=True)[1])
    first, second = orders
    assert np.array_equal(theirs["conv2.weight"][second][:, first], mine["conv2.weight"])


def test_cycles_train_one_mask_and_perturb_adds_noise(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path, "prune weights erk 70% by random at init\ncycle 2 { perturb 20%; rewind lr }\nreport distance"
    )
    first, second, third = found.study.levels
    noisy = found.study.step(found.study.step(second.ticket).parents["weights"])
    before, after = found.weights(noisy.parents["weights"]), found.weights(noisy.key)
    for name, mask in _left(found, first.structure).items():
        change = (after[name] - before[name])[mask]
        assert float(change.norm() / before[name][mask].norm()) == pytest.approx(0.2, rel=1e-4)
    assert found.weights(third.ticket).keys() == before.keys()
    distances = []
    for m in found.study.measurements:
        if m.report_metric == "distance" and m.contestant == "ticket":
            distances.append(found.metrics(m.step)["figures"]["distance"])
    assert len(distances) == 3 and min(distances) > 0


def test_cycles_train_a_dense_network_and_what_is_pruned_from_it(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path,
        "cycle 2 { rewind lr }\ncycle 1 { retrain scratch 2ep; distill from dense }\n"
        "prune weights 50%; rewind lr\nreport distance, train-flops",
    )
    metrics = [found.metrics(level.ticket) for level in found.study.levels]
    assert [each["sparsity"] for each in metrics] == [0, 0, 0, pytest.approx(0.5, abs=1e-3)]
    first, second = (found.weights(level.ticket) for level in found.study.levels[:2])
    assert not torch.equal(first["conv1.weight"], second["conv1.weight"])
    dense = found.metrics(found.study.levels[0].dense)["train_macs"]
    assert [each["path_macs"] for each in metrics[:2]] == [2 * dense, 3 * dense]  # one training more in every round


def test_a_barrier_between_two_arms_has_the_name_of_its_line(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path,
        "arm a { prune weights 50%; rewind lr }\narm b { prune weights 50%; rewind signs }\ncompare a, b\n"
        "report barrier of a to b, barrier of a to dense",
    )
    lines = {m.report_metric: m for m in found.study.measurements if m.line}
    assert set(lines) == {"barrier of a to b", "barrier of a to dense"}
    m = lines["barrier of a to b"]
    figures = found.metrics(m.step)["figures"]
    event = measure_event(m, {**found.context.store.get(m.step).data}, "x", found.study.plan.measuring)
    assert event is not None and event.figures["barrier of a to b"] == figures["barrier"]
    assert event.figures["barrier of a to b.error.01"] == figures["barrier.error.01"]
    # The ends of the line are the networks as they were tested, but for recomputed statistics.
    for role, position in (("weights", "01"), ("other", "30")):
        tested = found.metrics(found.study.step(m.step).parents[role])
        assert figures[f"barrier.error.{position}"] == pytest.approx(1 - tested["accuracy"], abs=0.1)


def test_the_run_says_that_seeds_are_linked(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "seeds 3\nprune weights 50%; rewind mask of next seed; rewind signs of seed 9")
    (note,) = plan_resolved_event(found.study, lambda key: False).notes
    assert "takes the mask of the next seed (1 from 2, 2 from 3, 3 from 1) and the signs of seed 9" in note
