"""The arguments of a training as one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from torch import Tensor, nn

from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.history import EpochReport
from tickdsl.training.parallel.ranks import Ranks
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.sparsifiers.protocol import Sparsifier
from tickdsl.training.step.distillation import Distillation
from tickdsl.training.usage import Usage

StateDict = Mapping[str, Tensor]


@attrs.frozen(eq=False, kw_only=True)
class TrainingJob:
    """The arguments of `train`; see there."""

    model: nn.Module
    data: Dataset
    recipe: Recipe
    seed: int
    start: int = 0
    stop: int | None = None
    masks: Mapping[str, Tensor] = attrs.field(factory=dict)
    checkpoint: Checkpointer | None = None
    on_epoch: Callable[[EpochReport], None] | None = None
    step_callbacks: Mapping[int, Callable[[StateDict], None]] = attrs.field(factory=dict)
    distillation: Distillation | None = None
    sparsifier: Sparsifier | None = None
    layout: str | None = None
    compile: bool | None = None
    measure_every: int = 0
    usage: Usage = attrs.field(factory=Usage)
    ranks: Ranks | None = None

    @property
    def should_compile(self) -> bool:
        """Whether torch compiles the network: `compile`, or if it is None, whether the recipe says `on`."""
        return self.recipe.compile == "on" if self.compile is None else self.compile

    def as_kwargs(self) -> dict[str, Any]:
        """The keyword arguments for `train`."""
        return attrs.asdict(self, recurse=False)
