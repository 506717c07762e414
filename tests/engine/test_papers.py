"""Sizes and costs that papers print, computed from the plans that reproduce them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from step_runner import HEAD, step_runner

from tickdsl.engine.building import trace_model
from tickdsl.graph.costs import cost
from tickdsl.graph.indexing import kept_indices
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import slice_state_dict
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.prune_arguments import prune_args
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.selection import prune
from tickdsl.training.models import create

FULL = Path(__file__).parents[2] / "plans" / "papers" / "retraining.plan"
RESIDUAL = HEAD.replace("small-cnn width=0.5", "resnet20 width=0.5")


@pytest.mark.parametrize(
    ("network", "candidates", "blocks", "saved"),
    [("resnet32", 13, 1, 6.82), ("resnet32", 13, 3, 20.47), ("resnet32", 13, 5, 34.13),
     ("resnet56", 25, 3, 11.25), ("resnet56", 25, 4, 15.00), ("resnet56", 25, 12, 45.00)],
)  # fmt: skip
def test_blocks_save_the_multiply_adds_of_table_4(network: str, candidates: int, blocks: int, saved: float) -> None:
    """Jordao et al. 2023, table 4; its row of "4" blocks of ResNet-32 is that of 5.

    Their code counts one candidate less: it keeps the first block of the first stage, though its shape does not change.
    """
    graph = trace_model(network, b"{}", 10, (3, 32, 32))
    structure = Structure.dense(graph)
    assert len(graph.layers) == candidates
    for block in graph.layers[:blocks]:  # all have the same cost
        structure = structure.remove_block(block.name)
    share = 1 - cost(graph, structure).macs / cost(graph, Structure.dense(graph)).macs
    assert float(100 * share) == pytest.approx(saved, abs=0.03)


def test_filters_that_match_removed_layers_leave_as_many(tmp_path: Path) -> None:
    """Jordao et al. 2023: remove blocks, then as many filters as the blocks had, selected globally."""
    text = "arm layers { prune layers 2 by snip at init }\n"
    found = step_runner(
        tmp_path, text + "arm filters { prune filters global matching layers by snip at init }", RESIDUAL
    )
    layers, filters = (found.structure(found.levels(arm)[0].structure) for arm in ("layers", "filters"))
    assert len(layers.removed_blocks) == 2 and not layers.kept
    assert filters.kept and not filters.removed_blocks
    left = {arm: found.metrics(found.levels(arm)[0].structure)["filters"] for arm in ("layers", "filters")}
    assert left["filters"] == pytest.approx(left["layers"], abs=1e-9)


@pytest.mark.parametrize("moment", ["init", "1ep", "2ep"])
def test_what_stays_of_a_network_without_layers_is_the_dense_one_at_that_epoch(tmp_path: Path, moment: str) -> None:
    found = step_runner(tmp_path, f"prune layers 2 by l2; rewind weights to {moment}", RESIDUAL)
    (level,) = found.study.levels
    ticket = found.study.step(level.ticket)
    dense = found.weights(ticket.parents["weights"])
    step = found.study.step(ticket.parents["weights"])
    assert step.args.get("stop", "init") == moment and "structure" not in step.parents
    found.run_step(level.structure)
    graph = found.context.dense_network(ticket).graph
    structure = found.structure(level.structure)
    begun = found.context.weights(ticket.parents["weights"], structure, graph)
    assert begun and all(torch.equal(begun[name], dense[name]) for name in begun)
    gone = {name for name in dense if any(name.startswith(f"{block}.") for block in structure.removed_blocks)}
    assert gone and not gone & begun.keys()


def test_resnet_56_b_loses_the_filters_of_its_stages() -> None:
    """Le & Hua 2021, after Li et al. 2017: 60, 30 and 10 % of the first convolutions of blocks, six of them spared.

    Their code keeps int(C * (1 - p)) filters: 6, 22 and 57; here what goes is rounded, which keeps 58 of 64.
    """
    plan = resolve(load_source(Source(str(FULL), FULL.read_text("utf-8")), {"criterion": "l1"})).plan
    assert plan is not None
    graph = trace_model("resnet56", b"{}", 10, (3, 32, 32))
    state = dict(create("resnet56", classes=10, shape=(3, 32, 32), seed=1).state_dict())
    dense = Structure.dense(graph)
    seen = ScoringContext(graph, dense, slice_state_dict(graph, state, dense, dense), torch.Generator().manual_seed(0))
    structure = prune(seen, prune_args(plan.arms[0].rounds[0].prune, 0, 1, head=False))
    spared = {"layer1.7", "layer1.8", "layer2.0", "layer2.7", "layer3.0", "layer3.8"}
    kept = {1: 6, 2: 22, 3: 58}
    for stage in (1, 2, 3):
        for block in range(9):
            (left, *_) = kept_indices(graph, structure, f"layer{stage}.{block}.conv1.weight")
            assert (None if left is None else len(left)) == (None if f"layer{stage}.{block}" in spared else kept[stage])
    assert len(structure.kept) == 27 - len(spared)


@pytest.mark.parametrize("schedule", ["fine-tune", "scaled", "one-cycle", "cyclic", "linear"])
@pytest.mark.parametrize("unit", ["filters", "weights"])
def test_a_random_choice_takes_as_many_of_each_layer(tmp_path: Path, schedule: str, unit: str) -> None:
    """Le & Hua 2021: random pruning keeps the counts per layer; only the schedules after it differ."""
    text = f"sweep by in [l1, random]\narm a {{ prune {unit} local 40% by $by; retrain {schedule} 1ep }}"
    found = step_runner(tmp_path, text)
    first, second = (found.structure(level.structure) for level in found.study.levels)
    assert first != second
    sizes = [
        {name: len(units) for name, units in each.kept.items()} | {name: int(m.sum()) for name, m in each.masks.items()}
        for each in (first, second)
    ]
    assert sizes[0] == sizes[1] and sizes[0]
