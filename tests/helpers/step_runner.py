"""Runs the steps of a study one by one, without the scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import networkx as nx
from safetensors.torch import load_file
from torch import Tensor

from tickdsl.engine.prepare_study import prepare_study
from tickdsl.engine.steps.context import Context
from tickdsl.engine.steps.operations import run_step
from tickdsl.engine.steps.result_files import WEIGHTS
from tickdsl.engine.steps.settings import Settings
from tickdsl.graph.structure import Structure
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.study import Level, Study

HEAD = "model small-cnn width=0.5\ndata synthetic size=8 train=192 test=64\ntrain 3ep lr=0.1 batch=32\n"


@attrs.define
class StepRunner:
    """Runs the steps of a study one by one, without the scheduler."""

    study: Study
    context: Context

    def run_step(self, key: str, deposits: bool = False) -> None:
        """Run a step and all its ancestors that are not in the store."""
        for step_key in [*nx.topological_sort(self.study.graph.subgraph(nx.ancestors(self.study.graph, key))), key]:
            if step_key not in self.context.store:
                points = self.study.graph.nodes[step_key]["prefixes"] if deposits else {}
                prefixes = {moment: self.study.step(point) for moment, point in points.items()}
                run_step(self.study.step(step_key), self.context, prefixes)

    def weights(self, key: str) -> dict[str, Tensor]:
        self.run_step(key)
        state: dict[str, Tensor] = load_file(self.context.store.get(key).folder / WEIGHTS)
        return state

    def metrics(self, key: str) -> dict[str, Any]:
        self.run_step(key)
        return dict(self.context.store.get(key).metrics)

    def structure(self, key: str) -> Structure:
        self.run_step(key)
        return self.context.structure(key, self.context.dense_network(self.study.step(key)).graph)

    def levels(self, arm: str, seed: int = 1) -> list[Level]:
        return [level for level in self.study.levels if (level.arm, level.seed) == (arm, seed)]

    def measured_step(self, contestant: str, level: int, arm: str = "ticket", seed: int = 1) -> str:
        """The step that measures a contestant."""
        (step,) = (
            m.step
            for m in self.study.measurements
            if (m.contestant, m.level, m.arm, m.seed, m.report_metric) == (contestant, level, arm, seed, "")
        )
        return step

    def step_labelled(self, label: str, seed: int = 1) -> str:
        """The only step with that label."""
        keys = [
            k for k, n in self.study.graph.nodes(data=True) if n["label"] == label and n["step"].seed in (seed, None)
        ]
        assert len(keys) == 1, keys
        return str(keys[0])


def step_runner(folder: Path, text: str, head: str = HEAD) -> StepRunner:
    resolved = resolve(load_source(Source("test.plan", head + text)))
    assert resolved.plan is not None, resolved.diagnostics
    return StepRunner(prepare_study(resolved.plan), Context(Settings(folder / "store", folder / "data")))


def equal_states(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all((first[name] == second[name]).all() for name in first)
