"""What holds for every system of tickets: trainings continue, arms share steps, all controls run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from killed_steps import assert_continues_bit_for_bit
from step_runner import StepRunner, step_runner
from system_cases import SYSTEM_CASES, SystemCase

every_system = pytest.mark.parametrize("case", SYSTEM_CASES, ids=lambda case: case.name)


def runner(folder: Path, case: SystemCase, text: str) -> StepRunner:
    return step_runner(folder, text, case.head)


def trainings_of(found: StepRunner, arm: str = "ticket") -> list[str]:
    """The step that trains the first ticket, after those that its weights come from, such as one with a penalty."""
    level = found.levels(arm)[0].ticket
    chain = [*found.study.graph.predecessors(level), level]
    return [key for key in chain if found.study.step(key).operation == "train"]


@every_system
def test_a_killed_training_continues_bit_for_bit(case: SystemCase, tmp_path: Path) -> None:
    whole, broken = (runner(tmp_path / name, case, case.plan(compare=False)) for name in ("whole", "broken"))
    for key in trainings_of(whole):
        # The second time, it is killed in the step where it was killed.
        assert_continues_bit_for_bit(broken, whole, key, killed_at=(1, 2))


@every_system
def test_arms_sweeps_and_seeds_share_what_they_have_in_common(case: SystemCase, tmp_path: Path) -> None:
    once = runner(tmp_path, case, case.plan(compare=False)).study
    head = "sweep share in [40%, 50%]\nseeds 2\n"
    arms = "".join(f"arm {name} {{\n{case.arm}\n}}\n" for name in ("first", "second"))
    swept = runner(tmp_path, case, f"{head}{arms}compare first, second, dense  # ok TD508\n").study
    assert set(once.graph) < set(swept.graph)
    per_seed = {seed: [key for key in swept.graph if swept.step(key).seed == seed] for seed in (1, 2)}
    assert len(per_seed[1]) == len(per_seed[2])
    for share in ("40%", "50%"):
        levels = [[level.ticket for level in swept.levels if level.arm == f"{name}[share={share}]"]
                  for name in ("first", "second")]  # fmt: skip
        assert levels[0] == levels[1] != []
    assert {m.step for m in swept.measurements if m.contestant == "dense" and m.seed == 1} == {
        m.step for m in once.measurements if m.contestant == "dense"
    }


@pytest.mark.slow
@every_system
def test_every_level_and_control_is_measured_by_the_metric_of_the_task(case: SystemCase, tmp_path: Path) -> None:
    found = runner(tmp_path, case, case.plan())
    for level in range(1, 1 + len(found.levels("ticket"))):
        for contestant in ("ticket", *case.controls):
            key = found.measured_step(contestant, level)
            metrics = found.metrics(key)
            assert math.isfinite(metrics[case.by]) and metrics["params"] > 0
    assert math.isfinite(found.metrics(found.measured_step("dense", 0))[case.by])
    sparsity = [found.metrics(level.structure)["sparsity"] for level in found.levels("ticket")]
    assert all(0 < share < 1 for share in sparsity)
