"""The guide to pruning one's own model runs as it is written, and so does its table of Torch-Pruning's calls."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import tickdsl
from tickdsl.training.torchvision_import import import_torchvision

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "prune-my-own-model.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ROWS = re.findall(r"^\| (.*?) \| (.*?) \|$", PAGE.partition("## From Torch-Pruning")[2], re.MULTILINE)[2:]
CALLS = [(theirs, call) for theirs, ours in ROWS for call in re.findall(r"`(tickdsl\..*?)`(?: |,|$)", ours)]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page has defined after all its blocks were run."""
    models = import_torchvision().models
    folder = tmp_path_factory.mktemp("guide")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", tickdsl.PruningWarning)
        patch.chdir(folder)
        defined: dict[str, Any] = {}
        for block in BLOCKS:
            exec(block, defined)
    defined["vit"] = models.VisionTransformer(64, 16, 2, 4, 32, 64, num_classes=10)
    defined["graph"] = defined["trace"](defined["model"], defined["example"])
    return defined


def test_every_block_of_the_guide_runs(names: dict[str, Any]) -> None:
    assert len(BLOCKS) == 8
    shallow, model, again, small = (names[name] for name in ("shallow", "model", "again", "small"))
    assert sum(isinstance(m, nn.Conv2d) for m in shallow.modules()) < sum(
        isinstance(m, nn.Conv2d) for m in model.modules()
    )
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in small.named_parameters()}


def test_the_table_has_a_call_for_what_users_of_torch_pruning_have() -> None:
    rows = " ".join(theirs for theirs, _ in ROWS)
    words = ("importance", "ratio", "global_pruning", "ignored_layers", "iterative_steps", "round_to", "FLOPs", "_dict")
    assert [word for word in words if word not in rows] == []
    assert len(CALLS) >= len(ROWS) - 1 >= 18


@pytest.mark.parametrize(("theirs", "call"), CALLS, ids=[theirs[:40] for theirs, _ in CALLS])
def test_every_call_of_the_table_runs(theirs: str, call: str, names: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tickdsl.PruningWarning)
        result = eval(call, dict(names))
    if isinstance(result, nn.Module):
        model = names["vit"] if "(vit," in call else names["model"]
        assert sum(p.numel() for p in result.parameters()) < sum(p.numel() for p in model.parameters())
    else:
        assert result
