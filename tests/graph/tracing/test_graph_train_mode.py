"""Networks whose code reads the training mode are also traced in training mode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tickdsl.graph import trace
from tickdsl.graph.tracing.meta import copy_to_meta
from tickdsl.graph.tracing.train_mode import TrainingModeWatch


class Auxiliary(nn.Module):
    """A second head that only runs in training mode; `ask` reads the mode."""

    def __init__(self, ask) -> None:
        super().__init__()
        self.ask = ask
        self.body = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
        self.head, self.second = nn.Linear(6, 2), nn.Linear(6, 3)

    def forward(self, x: Tensor):
        x = self.body(x)
        return (self.head(x), self.second(x)) if self.ask(self) else self.head(x)


ASK = {
    "attribute": lambda module: module.training,
    "by name": lambda module: getattr(module, "train" + "ing"),
    "of a child": lambda module: module.body.training,
}


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_heads_used_only_in_training_are_traced(ask) -> None:
    graph = trace(Auxiliary(ask), torch.zeros(1, 4))
    assert "second.weight" in graph.weights
    assert {piece.parameter for piece in graph.group("body.0").slices} >= {"head.weight", "second.weight"}


def test_a_network_that_does_not_read_its_mode_runs_once() -> None:
    runs = []
    network = nn.Sequential(nn.Linear(4, 6), nn.TransformerEncoderLayer(6, 2, 8, batch_first=True))
    network.register_forward_hook(lambda *_: runs.append(1))
    trace(network, torch.zeros(1, 3, 4))
    assert len(runs) == 1


def test_the_watch_changes_nothing_else() -> None:
    model = Auxiliary(ASK["attribute"])
    bare = copy_to_meta(model)
    watch = TrainingModeWatch(bare)
    bare.eval()
    assert not watch.reads_training
    assert isinstance(bare, Auxiliary) and type(bare).__name__ == "Auxiliary" and type(model) is Auxiliary
    assert [module.training for module in bare.modules()] == [False] * 6
    assert watch.reads_training
