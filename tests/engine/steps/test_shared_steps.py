"""Steps that the processes of a group run together: which ones, and that their results are those of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import networkx as nx
import pytest
import torch
from rank_processes import run_on_ranks
from step_runner import StepRunner, step_runner

from tickdsl.engine.hooks import Hooks
from tickdsl.engine.steps.operations import follow_step
from tickdsl.engine.steps.sharing import can_be_shared
from tickdsl.graph.structure import Structure
from tickdsl.plugins.permission import code_allowed_within
from tickdsl.training.parallel.ranks import Ranks
from tickdsl.training.tasks.generate import Generate

HEAD = (
    "model small-cnn width=0.5\ndata synthetic size=8 channels=1 train=600 test=40 classes=4\n"
    "train 1ep lr=0.1 batch=64\n"
)
VALIDATED = HEAD.replace("classes=4", "classes=4 validation=25%")
PLUGIN = '"test_shared_steps:by_size"'
PLANS = {
    "filters by what they change": (HEAD, "prune filters global 30% x 2 by taylor; rewind lr"),
    "filters by feature maps": (HEAD, "prune filters 30% by hrank; rewind lr"),
    "weights back, whole filters": (
        HEAD, "prune weights 60%; refill filters by saliency; rewind lr; grow weights 20% by gradient; rewind lr",
    ),
    "in training": (HEAD, "prune weights to 80% from 1it to 1ep every 4it by taylor"),
    "in training, by one's own": (HEAD, f"prune weights to 80% from 1it to 1ep every 4it by {PLUGIN}"),
    "softly": (HEAD, "prune filters local 30% by taylor via zeroing every=4it; rewind lr"),
    "searched": (VALIDATED, "prune filters searched to 60% of flops by taylor; rewind lr"),
}  # fmt: skip


def by_size(rows: torch.Tensor) -> torch.Tensor:
    """A criterion of one's own."""
    return rows.square().sum(1)


@pytest.mark.parametrize(
    ("head", "text", "shared"),
    [
        (HEAD, "prune filters 30% by taylor; rewind lr", True),
        (HEAD, "prune filters 30% by hrank; rewind lr", True),
        (HEAD, "prune weights 30% by snip at init", True),
        (HEAD, "prune filters 30% by l1; rewind lr", False),
        (HEAD, "prune filters 30% by random; rewind lr", False),
        (HEAD, f"prune weights 30% by {PLUGIN}; rewind lr", False),
        (HEAD, "prune filters to 80% of latency by taylor; rewind lr", False),
        (VALIDATED, "prune filters searched to 60% of flops by l1; rewind lr", True),
        (
            "model conv-vae width=0.25 latent=4\ndata digits samples=60\ntrain 1ep lr=0.01 batch=20\n",
            "prune filters 30% by taylor; rewind lr",
            False,
        ),
    ],
)
def test_prunes_that_processes_share(tmp_path: Path, head: str, text: str, shared: bool) -> None:
    with code_allowed_within(True):
        found = step_runner(tmp_path, text, head)
        prune = found.study.step(found.levels("ticket")[0].structure)
        assert prune.operation == "prune"
        assert can_be_shared(prune, found.context) is shared


def test_growing_and_refilling_by_data_are_shared(tmp_path: Path) -> None:
    for by, extra, shared in (("gradient", "saliency", True), ("magnitude", "l1", False)):
        text = f"prune weights 60%; refill filters by {extra}; rewind lr; grow weights 20% by {by}; rewind lr"
        found = step_runner(tmp_path, text, HEAD)
        steps = [found.study.step(key) for key in found.study.graph]
        scored = [step for step in steps if step.operation in ("grow", "refill")]
        assert len(scored) == 2
        assert [can_be_shared(step, found.context) for step in scored] == [shared, shared]


class OwnPhases(Generate):
    """A task of one's own whose parts are trained in turn."""

    name = "own-phases"


def test_a_task_of_ones_own_with_phases_is_trained_by_one_process_and_told(tmp_path: Path) -> None:
    head = "model dcgan width=0.1 latent=4\ndata digits samples=60\ntrain 1ep batch=20 lr=0.01\n"
    found = step_runner(tmp_path, "seeds 1\nprune weights 30%; rewind lr", head)
    told: list[str] = []
    found.context.hooks = attrs.evolve(Hooks(), step_warning=lambda key, message: told.append(message))
    train = found.study.step(found.levels("ticket")[0].ticket)
    assert train.operation == "train" and can_be_shared(train, found.context) and not told
    data = attrs.evolve(found.context.dataset(train.args["data"], train.seed), task=OwnPhases())
    found.context.dataset = lambda spec, seed: data  # type: ignore[method-assign]
    assert not can_be_shared(train, found.context)
    assert told == [
        "one process runs this step alone: the task `own-phases` has phases of its own, of which nothing is known"
    ]


def run_together(ranks: Ranks | None, folder: Path) -> dict[str, set[str]]:
    """Run the plans; by plan, the operations of the steps that the processes shared."""
    return {name: _run(ranks, folder / name, *plan) for name, plan in PLANS.items()}


def _run(ranks: Ranks | None, folder: Path, head: str, text: str) -> set[str]:
    with code_allowed_within(True):
        found = step_runner(folder, f"seeds 1\n{text}", head)
        if ranks is not None:
            found.context.settings = attrs.evolve(found.context.settings, group=("cpu",) * ranks.size)
        shared = set()
        for key in nx.topological_sort(found.study.graph):
            step = found.study.step(key)
            if ranks is not None and can_be_shared(step, found.context):
                shared.add(step.operation)
                found.context.ranks = ranks
            if ranks is None or ranks.rank == 0:
                found.run_step(key)
            elif found.context.ranks is not None:
                follow_step(step, found.context)
            found.context.ranks = None
            if ranks is not None:
                ranks.gather_objects(None)
    return shared


def results(folder: Path, name: str) -> dict[str, tuple[dict[str, Any], Structure | None]]:
    """The metrics and the structure of every step, by its key."""
    with code_allowed_within(True):
        found: StepRunner = step_runner(folder / name, f"seeds 1\n{PLANS[name][1]}", PLANS[name][0])
        structures = {}
        for key in found.study.graph:
            result = found.context.store.get(key)
            has_structure = (result.folder / "structure.safetensors").exists()
            structures[key] = (dict(result.metrics), found.structure(key) if has_structure else None)
    return structures


def assert_alike(found: Structure | None, expected: Structure | None) -> None:
    """The same units and blocks, and masks that differ in a few weights at most: trained weights differ by rounding."""
    assert (found is None) == (expected is None)
    if found is None or expected is None:
        return
    assert attrs.evolve(found, masks={}) == attrs.evolve(expected, masks={})
    assert found.masks.keys() == expected.masks.keys()
    different = sum(int((mask != expected.masks[name]).sum()) for name, mask in found.masks.items())
    assert different <= 0.02 * sum(mask.size for mask in expected.masks.values())


@pytest.mark.slow
def test_processes_find_the_structures_of_one(tmp_path: Path) -> None:
    run_together(None, tmp_path / "alone")
    first, second = run_on_ranks(2, run_together, tmp_path / "together")
    assert first == second
    assert all("train" in shared for shared in first.values())
    for name, operations in {
        "filters by what they change": {"prune"},
        "filters by feature maps": {"prune"},
        "weights back, whole filters": {"grow", "refill"},
        "searched": {"prune"},
    }.items():
        assert operations <= first[name]
    for name in PLANS:
        expected, found = results(tmp_path / "alone", name), results(tmp_path / "together", name)
        assert found.keys() == expected.keys()
        assert any(structure is not None for _, structure in expected.values())
        for key, (metrics, structure) in expected.items():
            assert_alike(found[key][1], structure)
            for metric in {"loss", "train_loss", "search_score"} & metrics.keys():
                assert found[key][0][metric] == pytest.approx(metrics[metric], rel=0.02, abs=0.01), name
