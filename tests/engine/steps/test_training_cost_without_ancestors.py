"""What trainings have cost is counted where it is known: a training needs no result but its parents'."""

import shutil
from pathlib import Path

from step_runner import step_runner

from tickdsl.engine.steps.operations import run_step

HEAD = "model small-cnn width=0.5\ndata synthetic size=8 train=64 test=32\ntrain 1ep batch=32\n"


def test_a_training_ends_without_the_results_that_its_parents_came_from(tmp_path: Path) -> None:
    runner = step_runner(tmp_path, "prune filters 30%; rewind lr\n", head=HEAD)
    study = runner.study
    last = next(level.ticket for level in study.levels)
    init = next(key for key in study.graph if study.step(key).operation == "init")
    complete = runner.metrics(last)
    assert complete["path_macs"] > complete["train_macs"] > 0
    for key in (last, init):
        shutil.rmtree(runner.context.store.get(key).folder)
    run_step(study.step(last), runner.context, {})
    again = runner.context.store.get(last).metrics
    assert again["path_macs"] is None and again["train_macs"] == complete["train_macs"]
    assert again["accuracy"] == complete["accuracy"]
