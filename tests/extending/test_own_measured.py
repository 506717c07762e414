"""Plug-in criteria and metrics: their values are validated, and editors list them without importing."""

from __future__ import annotations

import sys
from typing import Any

import attrs
import pytest
import torch
from torch import nn

from tickdsl.cli import main
from tickdsl.graph.structure import Structure
from tickdsl.graph.tracing.trace import trace
from tickdsl.lsp import completions, cursor
from tickdsl.metrics.plugin import TrainedModel, metric_figures
from tickdsl.plugins import PluginError, permission
from tickdsl.pruning.criteria import ScoringContext, get_criterion
from tickdsl.pruning.criteria.norms import L2
from tickdsl.pruning.selection import prune
from tickdsl.results.extra_metrics import columns_with_values
from tickdsl.training.data import datasets
from tickdsl.training.models import create


def subject() -> ScoringContext:
    """A small untrained network, with a factory that criteria can use to run it."""
    module = create("resnet20", classes=4, shape=(1, 8, 8), seed=3, options={"width": 0.25})
    graph = trace(module, (torch.zeros(2, 1, 8, 8),))
    state = module.state_dict()

    def network(structure: Structure) -> nn.Module:
        made = create("resnet20", classes=4, shape=(1, 8, 8), seed=3, options={"width": 0.25})
        made.load_state_dict(state)
        return made

    return ScoringContext(graph, Structure.dense(graph), state, network=network)


@pytest.mark.parametrize(("unit", "args"), [("filters", {"share": 0.3}), ("layers", {"count": 3})])
def test_a_function_ranks_like_the_equivalent_class(sandbox: Any, unit: str, args: dict[str, Any]) -> None:
    name = sandbox.module("def norm(rows):\n    return rows.square().sum(1).sqrt()\n")
    how = {"unit": unit, "scope": "global", **args}
    if unit == "layers":  # L2 ranks layers by their root mean square
        name = sandbox.module("def norm(rows):\n    return rows.square().mean(1).sqrt()\n")
    ours, theirs = (prune(subject(), {**how, "by": by}) for by in (f"{name}:norm", "l2"))
    assert (ours.removed_blocks, ours.kept.keys()) == (theirs.removed_blocks, theirs.kept.keys())
    assert all((ours.kept[group] == theirs.kept[group]).all() for group in ours.kept)


def test_a_function_ranks_single_weights(sandbox: Any) -> None:
    name = sandbox.module("def size(rows):\n    return rows.abs()[:, 0]\n")
    found = subject()
    names = list(found.graph.weights)
    scores = get_criterion(f"{name}:size").weights(found, names)
    assert all(torch.equal(a, b) for a, b in zip(scores, L2().weights(found, names), strict=True))


CLASS = """
import torch
from tickdsl.extending import Criterion

class Score(Criterion):
    units = ("filters",)

    def channels(self, subject, groups):
        return {body}
"""
EACH = "[torch.{0} for group in groups]"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (EACH.format("ones(group.size + 1)"), "returned scores of shape [5] for the 4 units of"),
        (EACH.format("ones(group.size, 1)"), "returned scores of shape [4, 1] for the 4 units of"),
        (EACH.format("full((group.size,), float('nan'))"), "non-finite scores for 4 of 4 units of"),
        (EACH.format("ones(group.size) / 0"), "non-finite scores for 4 of 4 units of"),
        (EACH.format("ones(group.size, dtype=torch.bool)"), "returned torch.bool for"),
        ("[[1.0] * group.size for group in groups]", "returned a list for"),
        ("[]", "returned 0 tensors for"),
        ("torch.ones(3)", "returned a Tensor for"),
        ("None", "returned a NoneType for"),
        ("[group.sise for group in groups]", "raised AttributeError"),
    ],
)
def test_invalid_scores_are_rejected(sandbox: Any, body: str, message: str) -> None:
    name = sandbox.module(CLASS.format(body=body))
    with pytest.raises(PluginError) as caught:
        prune(subject(), {"unit": "filters", "scope": "global", "share": 0.3, "by": f"{name}:Score"})
    assert message in caught.value.message and caught.value.hint
    assert f"{name}:Score" in caught.value.message


def test_the_hint_has_the_location_of_an_exception(sandbox: Any) -> None:
    name = sandbox.module("def score(rows):\n    rows = rows + 1\n    return rows.view(7, 7, 7, 7)\n")
    with pytest.raises(PluginError) as caught:
        prune(subject(), {"unit": "filters", "scope": "global", "share": 0.3, "by": f"{name}:score"})
    assert "RuntimeError" in caught.value.message and str(caught.value.hint).endswith(f"{name}.py:3")


def test_random_scores_are_reproducible_and_leave_the_global_rng_alone(sandbox: Any) -> None:
    name = sandbox.module("import torch\ndef score(rows):\n    return torch.rand(len(rows))\n")
    found = subject()
    state = torch.get_rng_state()
    first, again = (get_criterion(f"{name}:score").channels(found, found.graph.channels) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


# -- metrics


def trained() -> TrainedModel:
    found = datasets.load("synthetic", options={"size": 8, "train": 32, "test": 20, "channels": 1, "classes": 4})
    network = create("small-cnn", classes=4, shape=(1, 8, 8), seed=1).eval()
    return TrainedModel(network, found, torch.device("cpu"))


def test_a_metric_sees_the_whole_normalised_test_set(sandbox: Any) -> None:
    name = sandbox.module(
        """
        def about(trained):
            images = [batch for batch, _ in trained.batches(7)]
            return {"images": sum(map(len, images)), "scores": trained.scores().shape[1],
                    "mean": abs(float(sum(batch.sum() for batch in images)) / (20 * 64))}
        """
    )
    figures = metric_figures(f"{name}:about", trained())
    assert (figures[f"{name}:about.images"], figures[f"{name}:about.scores"]) == (20, 4)
    assert figures[f"{name}:about.mean"] < 0.5


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("'good'", "returned a str for"),
        ("{'a': None}", "returned a NoneType for"),
        ("float('inf')", "returned inf for"),
        ("{}", "returned no numbers"),
        ("trained.netwrok", "raised AttributeError"),
    ],
)
def test_invalid_metric_values_are_rejected(sandbox: Any, body: str, message: str) -> None:
    name = sandbox.module(f"def about(trained):\n    return {body}\n")
    with pytest.raises(PluginError) as caught:
        metric_figures(f"{name}:about", trained())
    assert message in caught.value.message and caught.value.hint


def test_plugin_metrics_have_columns() -> None:
    figures = dict.fromkeys(["latency.batch.size", "worst", "box.worst:worst.class", "robustness"])
    headings = {column.figure_name: column.heading for column in columns_with_values({("a", "ticket", 1): figures})}  # type: ignore[arg-type, dict-item]
    assert headings.keys() == {"robustness", "worst", "box.worst:worst.class"}
    assert headings["box.worst:worst.class"] == "worst.class"


# -- editors and the command line


@attrs.frozen
class _Written:
    text: str

    @property
    def items(self) -> dict[str, str]:
        place = cursor.locate(self.text, len(self.text))
        assert place is not None
        return {item.word: item.meaning for item in completions.complete(place, completions.DefinedNames({}, {}))}


@pytest.mark.parametrize(
    ("group", "text"),
    [
        ("models", "model "),
        ("datasets", "model small-cnn on "),
        ("datasets", "data "),
        ("criteria", "prune filters 20% by "),
        ("schedules", "retrain "),
        ("schedules", "train 3ep schedule="),
        ("metrics", "report accuracy, "),
    ],
)
def test_editors_complete_and_describe_plugins(sandbox: Any, group: str, text: str) -> None:
    name = sandbox.module('raise RuntimeError\ndef mine(x):\n    """What mine is."""\n')
    sandbox.install("box", **{group: {"mine": f"{name}:mine"}})
    meaning = _Written(text).items["mine"]
    assert meaning == f"What mine is\n\n{name}:mine of box 1.0"
    assert name not in sys.modules


def test_editors_complete_the_options_of_a_factory(sandbox: Any) -> None:
    name = sandbox.module("def net(classes, shape, max_width=8): ...\n")
    sandbox.install("box", models={"mine": f"{name}:net"})
    assert "max-width=" in _Written("model mine ").items


def test_graph_draws_a_plugin_model(sandbox: Any, capsys: pytest.CaptureFixture[str]) -> None:
    name = sandbox.module(
        """
        from torch import nn
        def net(classes, shape, width=4):
            \"\"\"Mine.\"\"\"
            return nn.Sequential(nn.Conv2d(shape[0], width, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(classes))
        """.replace("nn.LazyLinear(classes)", "nn.Linear(width * 36, classes)")
    )
    sandbox.install("box", models={"mine": f"{name}:net"})
    assert main(["graph", "mine", "--option", "width=6"]) == 0
    assert "mine width=6 on digits: 1×8×8, 10 classes" in capsys.readouterr().out
    assert main(["graph", f"{name}:net", "--on", "synthetic size=8"]) == 0
    assert main(["graph", "--list"]) == 0
    assert "Mine" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["own:net"], ["small-cnn", "--on", "own:pictures"]])
def test_graph_needs_allow_code_for_quoted_names(
    sandbox: Any, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(permission, "_allowed", False)
    (sandbox.folder / "own.py").write_text("raise SystemExit('imported')")
    assert main(["graph", *words]) == 2
    assert "--allow-code" in capsys.readouterr().err
