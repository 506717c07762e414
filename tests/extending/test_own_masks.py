"""Data sets of plug-ins with masks and tags, from the factory to the stored results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from step_runner import step_runner

from tickdsl.plugins import PluginError
from tickdsl.training.data import datasets

#: Bright squares on grey; `{change}` may spoil them, and use `raw`.
PLUGIN = """
import attrs
import numpy as np
from tickdsl.extending import RawDataset

def squares(root, task="segment"):
    rng = np.random.default_rng(0)
    def split(count):
        masks = np.zeros((count, 12, 12), dtype=np.int64)
        for mask in masks:
            row, column = rng.integers(0, 7, 2)
            mask[row:row + 6, column:column + 6] = 1
        masks[:, 0] = 255
        images = (80 + 100 * (masks == 1) + rng.integers(0, 20, masks.shape)).astype(np.uint8)[:, None]
        return images, masks if task == "segment" else rng.integers(0, 2, (count, 3))
    names = ("ground", "square") if task == "segment" else ()
    raw = RawDataset(*split(60), *split(20), class_names=names, task=task)
    {change}
    return raw
"""


def load(sandbox: Any, root: Path, change: str = "pass", **options: Any) -> datasets.Dataset:
    return datasets.load(f"{sandbox.module(PLUGIN.format(change=change))}:squares", root=root, options=options)


def test_masks_of_a_plugin_are_trained_on_and_resized(sandbox: Any, tmp_path: Path) -> None:
    data = load(sandbox, tmp_path)
    assert data.train_targets.dtype == torch.uint8 and data.classes == 2
    assert torch.equal(data.train_targets == 1, data.train_inputs[:, 0] > 150)
    half = load(sandbox, tmp_path, size=6)
    assert half.shape == (1, 6, 6) and half.train_targets.shape == (60, 6, 6)
    assert torch.equal(half.train_targets, data.train_targets[:, 1::2, 1::2])
    few = load(sandbox, tmp_path, samples=10)
    assert few.train_targets.shape == (10, 12, 12)


def test_tags_of_a_plugin_are_trained_on(sandbox: Any, tmp_path: Path) -> None:
    data = load(sandbox, tmp_path, task="tag")
    assert data.train_targets.dtype == torch.float32
    assert data.class_names == ("label 1", "label 2", "label 3")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            "raw = attrs.evolve(raw, train_targets=raw.train_targets[:, 1:])",
            r"train_targets has \[11, 12\] pixels, its images \[12, 12\]",
        ),
        ("raw.test_targets[3, 4, 5] = 7", "test_targets has 7 at row 4, column 5 of 3, with 2 class names"),
        ("raw = attrs.evolve(raw, class_names=())", "train_targets has 0 class names"),
        ("raw.test_targets[:] = 255", "test_targets has no pixel with a label"),
    ],
)
def test_masks_that_do_not_fit_are_refused(sandbox: Any, tmp_path: Path, change: str, problem: str) -> None:
    with pytest.raises(PluginError, match=problem):
        load(sandbox, tmp_path, change)


def test_a_plan_of_a_segmentation_runs_all_its_steps(sandbox: Any, tmp_path: Path) -> None:
    """Augmented, distilled, scored by a gradient, measured."""
    module = sandbox.module(PLUGIN.format(change="pass"))
    found = step_runner(
        tmp_path,
        "arm ticket { prune filters global 30% by taylor except head; rewind weights to init }\n"
        "arm shot { prune weights global 30% by snip }\n"
        "compare all, dense, random-init\nreport accuracy, barrier, early-stop, pruned, memory\n",
        head=f'model unet width=0.25 depth=1\ndata "{module}:squares"\n'
        "train 2ep lr=0.1 batch=16 augment=[crop, flip, rotation]\n",
    )
    tested = 0
    for key in found.study.graph:
        metrics, step = found.metrics(key), found.study.step(key)
        assert step.args["data"]["task"] == "segment" if "data" in step.args else True
        if step.operation in ("train", "evaluate") and "stop" not in step.args:
            tested += 1
            assert metrics["metric"] == "miou" and metrics["score"] == metrics["figures"]["miou"]
            assert 0 < metrics["chance"] < metrics["figures"]["pixel-accuracy"] <= 1
    assert tested > 2 and np.isfinite(metrics.get("loss", 0.0))
