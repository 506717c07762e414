"""Every criterion, from the text of a plan to its results, gives the same bits twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import networkx as nx
import pytest
import torch
from safetensors.torch import load_file

from tickdsl.engine.prepare_study import prepare_study
from tickdsl.engine.steps.context import Context
from tickdsl.engine.steps.operations import run_step
from tickdsl.engine.steps.result_files import STRUCTURE
from tickdsl.engine.steps.settings import Settings
from tickdsl.lang import registries
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source

DATA = "data synthetic size=8 train=192 test=64\ntrain 1ep lr=0.05 batch=32\n"
NETWORKS = {
    "weights": "model small-cnn width=0.5\n",
    "filters": "model small-cnn width=0.5\n",
    "neurons": "model lenet-300-100 width=0.2\n",
    "layers": "model resnet20 width=0.25\n",
    "heads": "model vit layers=2 heads=4 dim=16\n",
    "head-dims": "model vit layers=2 heads=2 dim=8\n",
}
AMOUNTS = {
    "weights": "to 80% x 2", "filters": "30%", "neurons": "30%", "layers": "1 x 2", "heads": "30%", "head-dims": "30%",
}  # fmt: skip
CASES = [
    (name, unit) for name, known in registries.CRITERIA.items() for unit in known.units if unit != "blocks"
]  # fmt: skip


def plan(by: str, unit: str) -> str:
    at = "" if "training" in registries.CRITERIA[by].needs else " at init"
    tail = "; rewind lr" if not at else ""
    if by == "movement":  # it is recorded while the network trains
        return f"{NETWORKS[unit]}{DATA}prune {unit} to 80% from 1it to 1ep every 2it by {by}"
    return f"{NETWORKS[unit]}{DATA}prune {unit} {AMOUNTS[unit]} by {by}{at}{tail}"


def work(folder: Path, text: str) -> Iterator[tuple[str, Mapping[str, torch.Tensor]]]:
    """The files of every step of a plan, run one by one."""
    found = resolve(load_source(Source("test.plan", text)))
    assert found.plan is not None, found.diagnostics
    study = prepare_study(found.plan)
    context = Context(Settings(folder / "store", folder / "data"))
    for key in nx.topological_sort(study.graph):
        run_step(study.step(key), context, {})
        result = context.store.get(key).folder
        is_pruned = study.step(key).operation == "prune" or "gradual" in study.step(key).args
        name = STRUCTURE if is_pruned else "weights.safetensors"
        yield f"{study.step(key).operation} {key}", load_file(result / name)


@pytest.mark.parametrize(("by", "unit"), CASES)
def test_a_criterion_carries_out_a_plan_twice_alike(by: str, unit: str, tmp_path: Path) -> None:
    first = dict(work(tmp_path / "a", plan(by, unit)))
    second = dict(work(tmp_path / "b", plan(by, unit)))
    assert first.keys() == second.keys()
    assert by == "movement" or sum(name.startswith("prune") for name in first) in (1, 2)
    for name, tensors in first.items():
        assert tensors.keys() == second[name].keys()
        assert all(torch.equal(tensor, second[name][key]) for key, tensor in tensors.items())


def test_seeds_draw_different_images(tmp_path: Path) -> None:
    """The same network, scored on other images, loses other weights."""
    text = plan("snip", "weights") + "\nseeds 2"
    found = resolve(load_source(Source("test.plan", text))).plan
    assert found is not None
    study = prepare_study(found)
    steps = [step for step in map(study.step, study.graph) if step.operation == "prune"]
    assert {step.seed for step in steps} == {1, 2}
    kept = {name: tensors for name, tensors in work(tmp_path, text) if name.startswith("prune")}
    assert len({tuple(t.numpy().tobytes() for t in tensors.values()) for tensors in kept.values()}) == len(steps)
