"""Lowering plans to steps: what is shared, what a key depends on, which weights a level starts from."""

from collections.abc import Callable

import attrs
import networkx as nx
import pytest

from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.lower import lower
from tickdsl.plan.model import Plan
from tickdsl.plan.steps import differences
from tickdsl.plan.study import Study

HEAD = "model small-cnn on digits\ntrain 10ep lr=0.1\n"


def plan(text: str) -> Plan:
    result = resolve(load_source(Source("test.plan", text))).plan
    assert result is not None
    return result


def study(text: str, fingerprint: Callable[..., str] = lambda data: "f" * 64) -> Study:
    return lower(plan(text), fingerprint=fingerprint, rounds=lambda arm, prune: 5)


def keys(text: str) -> set[str]:
    return set(study(text).graph)


def test_the_graph_is_acyclic_and_edges_are_the_parents() -> None:
    result = study(
        HEAD + "seeds 2\nprune filters 20% x 3; rewind weights to 2ep; compare random-init, random-structure"
    )
    assert nx.is_directed_acyclic_graph(result.graph)
    for key in result.graph:
        assert set(result.graph.predecessors(key)) == set(result.step(key).parents.values())
    assert {m.step for m in result.measurements} <= set(result.graph)


def test_arms_share_dense_trainings_and_equal_rounds() -> None:
    result = study(
        HEAD + "arm a { prune weights 20% x 2; rewind lr }\narm b { prune weights 20% x 4; rewind lr }\ncompare all"
    )
    # b extends a: one dense training and four levels.
    assert result.trainings == 5
    assert result.naive_trainings > result.trainings


@pytest.mark.parametrize(
    "other",
    [
        "# a comment\n" + HEAD + "prune   weights 20%   x 3 ; rewind lr",
        HEAD + "arm renamed { prune weights 20% x 3; rewind lr }",
        HEAD + "cycle 3 { prune weights 20%; rewind lr }",
        HEAD + "prune weights global 20% of remaining x 3 by magnitude; rewind lr to init",
        HEAD + "let n = 3\nprune weights 20% x $n; rewind lr",
        HEAD + "prune weights 20% x 3 by l1; rewind lr",
        HEAD.replace("0.1", "0.1 gamma=0.1 decay=0 schedule=constant nesterov=off augment=none")
        + "prune weights 20% x 3; rewind lr",
        HEAD.replace("small-cnn on", "small-cnn on").replace("digits", "digits width=1.0")
        + "prune weights 20% x 3; rewind lr",
    ],
)
def test_spelling_never_changes_a_key(other: str) -> None:
    assert keys(other) == keys(HEAD + "prune weights 20% x 3; rewind lr")


@pytest.mark.parametrize("written", ["temperature=4", "temperature=4.0", "temperature=4e0", "weight=0.9", "weight=90%"])
def test_the_spelling_of_a_number_never_changes_a_key(written: str) -> None:
    text = HEAD + "prune weights 20%; rewind lr; distill from dense "
    assert keys(text + written) == keys(text)


@pytest.mark.parametrize(
    "other",
    [
        "prune weights 30% x 3; rewind lr",
        "prune weights local 20% x 3; rewind lr",
        "prune weights 20% x 3 by random; rewind lr",
        "prune weights 20% x 3 except fc; rewind lr",
        "prune weights 20% x 3; rewind weights",
        "seeds [7]\nprune weights 20% x 3; rewind lr",
    ],
)
def test_meaning_changes_the_key(other: str) -> None:
    assert keys(HEAD + other) != keys(HEAD + "prune weights 20% x 3; rewind lr")


def test_a_longer_plan_keeps_the_steps_of_the_shorter() -> None:
    short, longer = (keys(HEAD + f"prune weights 20% x {n}; rewind lr; compare random-init") for n in (2, 4))
    assert short < longer


def test_data_counts_by_content_not_by_path() -> None:
    text = 'model small-cnn\ndata folder path="{}"\nprune weights 20%; rewind lr'
    one, two = (keys(text.format(path)) for path in ("here", "there"))
    assert one == two
    other = study(text.format("here"), lambda data: "0" * 64)
    assert not one & set(other.graph)


def test_a_percentage_of_the_recipe_is_converted() -> None:
    one, two = (keys(HEAD + f"prune weights 20%; rewind weights to {t}") for t in ("20%", "2ep"))
    assert one == two


def test_rewinding_points_are_prefixes_of_the_dense_training() -> None:
    result = study(HEAD + "prune weights 20% x 2; rewind weights to 2ep")
    (point,) = [key for key in result.graph if "stop" in result.step(key).args]
    leader = result.graph.nodes[point]["prefix_of"]
    assert result.graph.nodes[leader]["prefixes"] == {"2ep": point}
    assert result.step(leader).parents == result.step(point).parents
    levels = [result.step(level.ticket) for level in result.levels]
    assert all(step.parents["weights"] == point and step.args["start"] == "2ep" for step in levels)


def test_weights_rewound_to_init_start_from_it() -> None:
    result = study(HEAD + "prune weights 20% x 2; rewind weights")
    starts = {result.step(result.step(level.ticket).parents["weights"]).operation for level in result.levels}
    assert starts == {"init"}


def test_learning_rate_rewinding_keeps_the_weights() -> None:
    result = study(HEAD + "prune weights 20% x 2; rewind lr to 5ep")
    first, second = (result.step(level.ticket) for level in result.levels)
    assert second.parents["weights"] == first.key
    assert first.args["start"] == second.args["start"] == "5ep"


def test_tickets_of_parts_are_measured_on_all_data() -> None:
    result = study(HEAD + "split classes 2\nprune weights 20% x 3; overlap; rewind weights")
    for level in result.levels:
        ticket = result.step(level.ticket)
        assert "part" not in ticket.args["data"]
        assert result.step(level.structure).operation == "overlap"
        assert len(result.step(level.structure).parents) == 2
    parts = [s.args["data"]["part"]["index"] for s in map(result.step, result.graph) if "part" in s.args["data"]]
    assert set(parts) == {0, 1}


@pytest.mark.parametrize("by", ["classes", "samples"])
def test_tickets_of_parts_learn_on_all_data_from_a_teacher_of_all_data(by: str) -> None:
    result = study(HEAD + f"split {by} 2\nprune weights 20% x 2; overlap; rewind weights; distill from dense")
    trainings = [result.step(key) for key in result.graph if "teacher" in result.step(key).parents]
    assert len(trainings) == 4  # a ticket for each level, and each part once between them
    for training in trainings:
        teacher = result.step(training.parents["teacher"])
        assert teacher.args["data"].get("part") == training.args["data"].get("part")


def test_a_transferred_ticket_learns_from_no_teacher() -> None:
    result = study(HEAD + "prune weights 20% x 2; rewind lr; distill from dense\ntransfer to mnist")
    assert [("teacher" in result.step(level.ticket).parents) for level in result.levels] == [False, False]
    assert sum("teacher" in result.step(key).parents for key in result.graph) == 1


def test_geometric_targets_are_reached_exactly() -> None:
    result = study(HEAD + "prune weights to 95% x 4; rewind lr")
    targets = [result.step(level.structure).args["to"] for level in result.levels]
    assert targets[-1] == 0.95
    ratios = [(1 - b) / (1 - a) for a, b in zip([0.0, *targets], targets, strict=False)]
    assert max(ratios) - min(ratios) < 1e-9


def test_rounds_at_init_without_a_tail_are_one_level() -> None:
    result = study(HEAD + "prune weights to 90% x 10 by random at init")
    assert [level.level for level in result.levels] == [1]
    assert result.trainings == 2


def test_every_seed_has_its_own_steps() -> None:
    result = study(HEAD + "seeds 3\nprune weights 20%; rewind lr")
    assert sorted({m.seed for m in result.measurements}) == [1, 2, 3]
    assert len({m.step for m in result.measurements}) == len(result.measurements)


def test_differences_name_what_changed() -> None:
    one, two = (
        study(h + "prune weights 20%; rewind lr") for h in (HEAD.replace("0.1", "0.3"), HEAD.replace("0.1", "0.2"))
    )
    mine, theirs = (next(s for s in map(f.step, f.graph) if s.operation == "train") for f in (one, two))
    assert "args.recipe.lr: 0.2 -> 0.3" in differences(mine.parts, theirs.parts)


def test_controls_of_the_last_level_only() -> None:
    text = HEAD + "prune weights 20% x 3; rewind lr; compare random-init levels="
    assert {m.level for m in study(text + "last").measurements if m.contestant == "random-init"} == {3}
    assert {m.level for m in study(text + "all").measurements if m.contestant == "random-init"} == {1, 2, 3}


def test_plans_are_values() -> None:
    result = plan(HEAD + "prune weights 20%; rewind lr")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        result.name = "other"  # type: ignore[misc]
    assert result == plan("# moved\n" + HEAD + "prune weights 20%; rewind lr")


def test_local_and_uniform_are_synonyms() -> None:
    one, two = (keys(HEAD + f"prune weights {scope} 20% except conv1, fc; rewind lr") for scope in ("local", "uniform"))
    assert one == two == keys(HEAD + "prune weights local 20% except fc, conv1; rewind lr")


def test_random_rounds_draw_independently() -> None:
    result = study(HEAD + "cycle 2 { prune weights 30% by random; rewind lr; prune filters 10%; rewind lr }")
    rounds = [s.args["round"] for s in map(result.step, result.graph) if s.args.get("by") == "random"]
    assert len(rounds) == len(set(rounds)) == 2


def test_until_counts_also_before_the_last_prune() -> None:
    result = study(HEAD + "prune weights 20% x 8 until 50%; rewind lr; prune filters 10%; rewind lr")
    assert len(result.levels) == 5 + 1  # `rounds` returns 5


def test_of_original_continues_in_the_next_round() -> None:
    result = study(HEAD + "prune weights 20% of original x 2; rewind lr")
    assert [result.step(level.structure).args["of_original"] for level in result.levels] == [[0.0, 0.2], [0.2, 0.4]]


def test_a_retraining_is_a_training_by_another_recipe() -> None:
    result = study(HEAD + "prune weights 20% x 2; retrain linear 4ep")
    first, second = (result.step(level.ticket) for level in result.levels)
    assert first.args["recipe"]["schedule"] == "linear" and first.args["recipe"]["length"] == "4ep"
    assert second.parents["weights"] == first.key
    assert first.parents["weights"] == next(m.step for m in result.measurements if m.contestant == "dense")


def test_retraining_starts_from_rewound_weights() -> None:
    result = study(HEAD + "prune weights 20% x 2; rewind weights to 2ep; retrain linear 4ep")
    starts = {result.step(level.ticket).parents["weights"] for level in result.levels}
    assert [result.step(key).args["stop"] for key in starts] == ["2ep"]
    assert all("start" not in result.step(level.ticket).args for level in result.levels)


def test_rewinding_lr_after_a_retraining_starts_it_later() -> None:
    result = study(HEAD + "prune weights 20%; retrain linear 4ep; rewind lr to 25%")
    ticket = result.step(result.levels[0].ticket)
    assert (ticket.args["recipe"]["schedule"], ticket.args["start"]) == ("linear", "1ep")


def test_every_round_of_a_retraining_has_its_own_order() -> None:
    result = study(HEAD + "prune weights 20% x 2; retrain linear 4ep\nprune weights 10% x 2; retrain fine-tune 1ep")
    assert [result.step(level.ticket).args["round"] for level in result.levels] == [1, 2, 3, 4]


@pytest.mark.parametrize("tail", ["rewind lr", "rewind weights to 2ep", "retrain scratch 2ep"])
def test_a_replayed_training_has_the_order_of_the_dense_one(tail: str) -> None:
    result = study(HEAD + f"prune weights 20% x 2; {tail}\ncompare random-init, random-structure")
    assert all("round" not in result.step(m.step).args for m in result.measurements)


def test_a_random_structure_knows_where_layers_were_removed() -> None:
    head = "model resnet20 on cifar10\ntrain 4ep\n"
    pipeline = "cycle 2 { prune layers 1 in layer1; rewind lr; prune layers 1 except layer1; rewind lr }"
    result = study(head + pipeline + "\ncompare random-structure")
    drawn = [
        result.step(result.step(m.step).parents["structure"]) for m in result.measurements
        if m.contestant == "random-structure"
    ]  # fmt: skip
    both = [{"within": ["layer1"]}, {"protect": ["layer1"]}]
    assert [step.args["layers"] for step in drawn] == [both[:1], both, both, both]
    weights = study(head + "prune weights 20%; rewind lr\ncompare random-structure")
    assert not any("layers" in weights.step(key).args for key in weights.graph)


def test_what_is_measured_after_a_prune_has_the_precision_of_the_recipe() -> None:
    for precision, arguments in {"fp32": None, "bf16": "bf16"}.items():
        plan = (
            f"model small-cnn on digits\ntrain 1ep precision={precision}\nprune weights 20%; rewind lr\nreport pruned"
        )
        lowered = study(plan)
        (measured,) = (step for step in map(lowered.step, lowered.graph) if step.operation == "pruned")
        assert measured.args.get("precision") == arguments


def test_recalibrated_weights_are_trained_or_measured() -> None:
    trained = study(HEAD + "prune filters 20% x 2; recalibrate; rewind lr")
    for level in trained.levels:
        before = trained.step(trained.step(level.ticket).parents["weights"])
        assert before.operation == "recalibrate" and before.parents["structure"] == level.structure
    measured = study(HEAD + "prune filters 20%; recalibrate")
    ticket = measured.step(measured.levels[0].ticket)
    assert ticket.operation == "evaluate"
    assert measured.step(ticket.parents["weights"]).operation == "recalibrate"


@pytest.mark.parametrize(
    ("tail", "operation"),
    [("rewind weights", "train"), ("retrain linear 4ep", "train"), ("recalibrate; rewind weights", "recalibrate")],
)
def test_the_pruned_network_is_measured_before_its_tail(tail: str, operation: str) -> None:
    result = study(HEAD + f"prune filters 20% x 2; {tail}\ncompare random-init\nreport accuracy, pruned")
    found = [m for m in result.measurements if m.report_metric == "pruned"]
    assert [(m.contestant, m.level) for m in found] == [("ticket", 1), ("ticket", 2)]
    for measurement, level in zip(found, result.levels, strict=True):
        step = result.step(measurement.step)
        weights = result.step(step.parents["weights"])
        assert (step.parents["structure"], weights.operation) == (level.structure, operation)
    earlier = result.step(result.step(result.levels[1].structure).parents["weights"]).key
    trained = result.step(found[1].step).parents["weights"]
    assert trained == earlier or result.step(trained).parents["weights"] == earlier


def test_retraining_from_scratch_equals_the_random_init_control() -> None:
    result = study(HEAD + "prune weights 20%; retrain scratch\ncompare random-init")
    assert {m.step for m in result.measurements if m.level == 1} == {result.levels[0].ticket}


def prunes(text: str) -> list[dict]:
    result = study(HEAD + text)
    return [step.parts for step in map(result.step, result.graph) if step.operation == "prune"]


@pytest.mark.parametrize("by", ["magnitude", "l1", "l2", "bn-scale", "fpgm", "synflow"])
def test_a_ranking_without_data_has_no_seed_in_its_key(by: str) -> None:
    (parts,) = prunes(f"prune filters 20% by {by}; rewind lr")
    assert parts["seed"] is None
    assert set(parts["args"]) == {"unit", "scope", "by", "share", "model", "data"}


@pytest.mark.parametrize("by", ["snip", "grasp", "taylor", "hrank", "expected-abs"])
def test_a_ranking_by_images_has_the_seed_that_selects_them(by: str) -> None:
    first, second = prunes(f"seeds [3, 4]\nprune filters 20% by {by}; rewind lr")
    assert (first["seed"], second["seed"]) == (3, 4)
    assert "round" not in first["args"]  # every round uses the same images
