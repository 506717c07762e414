"""`stretch` and `squeeze` run for real: the source's blocks train, with the masks and the training of the ticket."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from step_runner import StepRunner, equal_states, step_runner

from tickdsl.engine.scheduler.arm_ends import arm_ends
from tickdsl.graph.indexing import remaining_weights
from tickdsl.inspect.level_forecast import forecast_levels

#: Layers of 300 from 2 to 4: fc2 comes to fc2, fc3 and fc4, fc3 (of 100) to fc5, and fc4, the head, to fc6.
HEAD = (
    "model lenet-300-100 width=0.05 depth=2\ndata synthetic size=8 channels=1 classes=4 train=192 test=64\n"
    "train 3ep lr=0.05 batch=32\n"
)
COMES_FROM = {"fc1": "fc1", "fc2": "fc2", "fc3": "fc2", "fc4": "fc2", "fc5": "fc3", "fc6": "fc4"}
CONTROLS = "compare all, random-init, random-structure, shuffled-mask, by-magnitude, by-snip, by-grasp, by-synflow"


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> StepRunner:
    text = (
        "prune weights global 40% x 2 except fc4; rewind weights to 1ep\nstretch to lenet-300-100 depth=4\n" + CONTROLS
    )
    return step_runner(tmp_path_factory.mktemp("elastic"), text, HEAD)


def test_the_ticket_starts_from_the_rewound_weights_of_the_source(runner: StepRunner) -> None:
    for level in runner.levels("ticket"):
        step = runner.study.step(level.ticket)
        assert step.args["model"]["options"] == {"width": 0.05, "depth": 4}
        assert step.args["start"] == "1ep"
        start = runner.weights(step.parents["weights"])
        rewound = runner.weights(runner.step_labelled("dense to 1ep"))
        for layer, source in COMES_FROM.items():
            for kind in ("weight", "bias"):
                assert torch.equal(start[f"{layer}.{kind}"], rewound[f"{source}.{kind}"])


def test_the_masks_are_those_of_the_source_and_hold_after_the_training(runner: StepRunner) -> None:
    for number, level in enumerate(runner.levels("ticket"), start=1):
        source = runner.structure(runner.step_labelled(f"prune round {number}"))
        carried = runner.structure(level.structure)
        assert {name: bool(mask.all()) for name, mask in carried.masks.items()} == dict.fromkeys(carried.masks, False)
        for layer, origin in COMES_FROM.items():
            ours, theirs = (s.masks.get(f"{name}.weight") for s, name in ((carried, layer), (source, origin)))
            assert (ours is None) == (theirs is None) and (ours is None or (ours == theirs).all())
        trained = runner.weights(level.ticket)
        for name, mask in carried.masks.items():
            assert not trained[name][~torch.from_numpy(mask.copy())].any()
            assert trained[name].any()


def test_levels_are_compared_with_the_dense_network_that_they_were_carried_to(runner: StepRunner) -> None:
    dense = runner.study.step(runner.measured_step("dense", 0))
    assert dense.args["model"]["options"]["depth"] == 4 and "structure" not in dense.parents
    assert runner.metrics(dense.key)["params"] == 64 * 15 + 15 + 3 * (15 * 15 + 15) + 15 * 5 + 5 + 5 * 4 + 4


@pytest.mark.parametrize("control", ["shuffled-mask", "by-magnitude", "by-snip", "by-grasp", "by-synflow"])
def test_controls_of_choice_differ_from_the_ticket_in_their_masks_alone(runner: StepRunner, control: str) -> None:
    for number, level in enumerate(runner.levels("ticket"), start=1):
        ticket, other = (runner.study.step(runner.measured_step(name, number)) for name in ("ticket", control))
        assert other.args == ticket.args and other.seed == ticket.seed
        assert other.parents["weights"] == ticket.parents["weights"]
        ours, theirs = runner.structure(level.structure), runner.structure(other.parents["structure"])
        graph = runner.context.dense_network(ticket).graph
        counts = [remaining_weights(graph, structure) for structure in (ours, theirs)]
        assert sum(kept for kept, _ in counts[0].values()) == sum(kept for kept, _ in counts[1].values())
        assert ours != theirs
        if control == "shuffled-mask":
            assert counts[0] == counts[1]
        assert runner.metrics(other.key)["accuracy"] >= 0


def test_by_magnitude_keeps_the_largest_of_the_stretched_weights(runner: StepRunner) -> None:
    step = runner.study.step(runner.measured_step("by-magnitude", 2))
    start, structure = runner.weights(step.parents["weights"]), runner.structure(step.parents["structure"])
    pruned = [name for name in start if name.endswith("weight") and not name.startswith("fc6")]
    assert structure.masks.keys() == set(pruned)  # `except fc4` names the head of the source, which is fc6 here
    kept = torch.cat([start[name].abs()[torch.from_numpy(structure.masks[name].copy())] for name in pruned])
    gone = torch.cat([start[name].abs()[~torch.from_numpy(structure.masks[name].copy())] for name in pruned])
    # The last weight of a layer stays, whatever its rank; no layer is that empty here.
    assert kept.min() >= gone.max()


def test_synflow_prunes_in_many_steps(runner: StepRunner) -> None:
    step = runner.study.step(runner.study.step(runner.measured_step("by-synflow", 2)).parents["structure"])
    assert step.args["iterations"] == 100 and step.args["matching"]


def test_a_stretch_and_a_transfer_change_the_network_and_the_data(tmp_path: Path) -> None:
    text = (
        "prune neurons local 40% x 2; rewind weights to 1ep\nstretch to lenet-300-100 depth=3\n"
        "transfer to synthetic size=8 channels=1 classes=3 train=96 test=32\ncompare shuffled-mask, by-snip\n"
    )
    found = step_runner(tmp_path, text, HEAD)
    for number, level in enumerate(found.levels("ticket"), start=1):
        step = found.study.step(level.ticket)
        assert step.args["model"]["options"]["depth"] == 3 and step.args["data"]["options"]["classes"] == 3
        widths = [len(tensor) for name, tensor in found.weights(level.ticket).items() if name.endswith("bias")]
        assert widths == [[15, 15, 15, 5, 3], [9, 9, 9, 3, 3], [5, 5, 5, 2, 3]][number]
        for control in ("shuffled-mask", "by-snip"):
            assert found.metrics(found.measured_step(control, number))["params"] > 0


def test_what_is_pruned_before_is_trained_once_for_all_arms(tmp_path: Path) -> None:
    text = (
        "prune weights 40% x 2; rewind weights to 1ep\n"
        "arm deeper { stretch to lenet-300-100 depth=3 }\narm deepest { stretch to lenet-300-100 depth=4 }\n"
    )
    study = step_runner(tmp_path, text, HEAD).study
    prunes = [key for key in study.graph if study.step(key).operation == "prune"]
    assert len(prunes) == 2
    # The dense network to its end and its rewinding point, round 1; and for each arm its dense network and two levels.
    assert study.trainings == 3 + 2 * 3


def test_another_arm_matches_the_levels_as_the_other_network(tmp_path: Path) -> None:
    text = (
        "arm deeper { prune weights 40% x 2 except fc4; rewind weights to 1ep; stretch to lenet-300-100 depth=4 }\n"
        "arm own { model lenet-300-100 width=0.05 depth=4; prune weights matching deeper by magnitude except fc6; "
        "rewind weights to 1ep }\n"
    )
    found = step_runner(tmp_path, text, HEAD)
    for ours, theirs in zip(found.levels("own"), found.levels("deeper"), strict=True):
        metrics = [found.metrics(level.structure) for level in (ours, theirs)]
        assert metrics[0]["sparsity"] == metrics[1]["sparsity"]


def test_squeezed_filters_give_a_smaller_network(tmp_path: Path) -> None:
    head = HEAD.replace("model lenet-300-100 width=0.05 depth=2", "model resnet32 width=0.1")
    found = step_runner(
        tmp_path, "prune filters local 50%; rewind weights to 1ep\nsqueeze to resnet20 drop=alternate", head
    )
    (level,) = found.levels("ticket")
    start = found.weights(found.study.step(level.ticket).parents["weights"])
    rewound = found.weights(found.step_labelled("dense to 1ep"))
    assert torch.equal(start["layer2.2.conv1.weight"], rewound["layer2.3.conv1.weight"])
    assert len(found.weights(level.ticket)["layer3.2.conv1.weight"]) == 3
    assert not equal_states(start, found.weights(level.ticket))


def test_rounds_end_by_what_is_left_of_the_network_that_levels_are_measured_as(tmp_path: Path) -> None:
    text = (
        "arm share { prune weights local 30% until 30% in fc2; rewind weights to 1ep; "
        "stretch to lenet-300-100 depth=6 }\n"
        "arm cost { prune weights local 30% x 6 until params < 85% in fc2; rewind weights to 1ep; "
        "stretch to lenet-300-100 depth=6 }\n"
    )
    found = step_runner(tmp_path, text, HEAD)
    for arm, ends_at in (("share", 0.3), ("cost", 0.15)):
        ended = []
        for number, level in enumerate(found.levels(arm), start=1):
            here, source = (
                found.metrics(key) for key in (level.structure, found.step_labelled(f"prune round {number}"))
            )
            dense = level.dense_cost.get("params")
            share = here["sparsity"] if dense is None else 1 - here["params"] / dense
            # Copies of fc2 are most of the stretched network, and less than half of the other one.
            assert share > source["sparsity"]
            ended.append(arm_ends(found.study, level, found.metrics))
            assert ended[-1] == (share >= ends_at)
            if ended[-1]:
                break
        assert ended[-1] and len(ended) > 1


def test_weights_of_a_ticket_whose_layers_differ_are_carried_in_their_places(tmp_path: Path) -> None:
    text = "prune neurons global 40% x 2; rewind lr\nstretch to lenet-300-100 depth=3\n"
    found = step_runner(tmp_path, text, HEAD)
    step = found.study.step(found.levels("ticket")[1].ticket)
    carried = found.weights(step.parents["weights"])
    source = found.study.step(step.parents["weights"]).parents["weights"]
    graph = found.context.dense_network(found.study.step(source)).graph
    kept = found.structure(found.study.step(source).parents["structure"]).kept
    ours = found.weights(source)
    units = {layer: kept.get(graph.groups_by_producer[layer], range(15)) for layer in ("fc1", "fc2")}
    assert len(units["fc1"]) != len(units["fc2"])
    # fc3 comes from fc2, and reads the neurons of fc2: those of its weights that read others are not there, and are 0.
    for row in range(len(units["fc2"])):
        for column, unit in enumerate(units["fc2"]):
            places = [n for n, other in enumerate(units["fc1"]) if other == unit]
            expected = ours["fc2.weight"][row, places[0]] if places else 0.0
            assert carried["fc3.weight"][row, column] == expected


def test_a_forecast_ends_at_a_ticket_of_which_a_narrower_layer_gets_nothing(tmp_path: Path) -> None:
    head = HEAD.replace("width=0.05", "width=0.1")
    text = "prune neurons local 60% x 3; rewind lr\nsqueeze to lenet-300-100 width=0.02 drop=last\n"
    found = step_runner(tmp_path, text, head)
    (arm,) = found.study.plan.arms
    forecast = forecast_levels(found.study, arm, tmp_path)
    assert [row["params"] for row in forecast] == sorted((row["params"] for row in forecast), reverse=True)
    assert 1 < len(forecast) < 4
