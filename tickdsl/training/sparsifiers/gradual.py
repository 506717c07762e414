"""Gradual magnitude pruning: weights leave the network step by step while it trains (Zhu & Gupta 2017)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from tickdsl.training.rng import generator
from tickdsl.training.sparsifiers.protocol import ActiveSparsifier, SparseNetwork
from tickdsl.training.sparsifiers.selection import entries, is_above, lowest, lowest_of_all, number_of, positions
from tickdsl.training.step.gradient_terms import MovementScores

#: Scores of weights by name, in the shapes of the parameters, from the network's state dict. The lowest leave.
ScoreWeights = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
#: The criteria that need nothing but the training itself.
OWN_CRITERIA = ("magnitude", "random", "movement", "delta")


@attrs.frozen(eq=False)
class GradualPruning:
    """Removes the lowest-ranked weights (the `highest`, if it says so) at some steps; none of them comes back.

    names: the parameters in scope. left: by step, how many of their weights are left after it: one number for each
    parameter, or one for all together, which are then ranked together. by: the criterion. origin: for `delta`, the
    weights that changes are measured from. score: for a criterion that is not among `OWN_CRITERIA`.

    Every parameter keeps at least one weight.
    """

    names: Sequence[str]
    left: Mapping[int, Sequence[int]]
    by: str = "magnitude"
    origin: Mapping[str, Tensor] = attrs.field(factory=dict)
    score: ScoreWeights | None = None
    highest: bool = False
    changes_masks: bool = attrs.field(default=True, init=False)

    def identity(self) -> str:
        return json.dumps(
            ["gradual", list(self.names), sorted((k, list(v)) for k, v in self.left.items()), self.by, self.highest]
        )

    def start(self, network: SparseNetwork) -> ActiveSparsifier:
        return _ActiveGradualPruning(self, network)


class _ActiveGradualPruning(ActiveSparsifier):
    def __init__(self, spec: GradualPruning, network: SparseNetwork) -> None:
        super().__init__(network)
        self._spec = spec
        self._movement: MovementScores | None = None
        if spec.by == "movement":
            self._movement = MovementScores([network.parameters[name] for name in spec.names])
            self.gradient_terms = (self._movement,)

    def is_due(self, step: int) -> bool:
        return step in self._spec.left

    @torch.no_grad()
    def change(self, step: int, gradients: Mapping[str, Tensor] | None = None) -> None:
        names, left, parameters = self._spec.names, self._spec.left[step], self.network.parameters
        inside = [is_above(self.network.masks.factors(name), 0.5).flatten() for name in names]
        where = [positions(now) for now in inside]
        scores = [entries(score.flatten(), at) for score, at in zip(self._scores(step), where, strict=True)]
        if self._spec.highest:
            scores = [-score for score in scores]
        sizes = [len(at) for at in where]
        if len(left) == 1 and len(names) > 1:
            for score in (score for score in scores if len(score)):
                score[score.argmax()] = torch.inf  # the best weight is out of reach: no parameter loses all of them
            leaving = lowest_of_all(scores, sum(sizes) - left[0])
        else:
            leaving = [lowest(score, size - n) for score, size, n in zip(scores, sizes, left, strict=True)]
        counts = [number_of(now) for now in leaving]
        if any(counts):
            self.network.masks.replace(
                {
                    name: before.index_fill(0, entries(at, positions(now)), False).view(parameters[name].shape)
                    for name, before, at, now in zip(names, inside, where, leaving, strict=True)
                }
            )
        self.changes.append((step, sum(counts), 0))
        now_left = (size - count for size, count in zip(sizes, counts, strict=True))
        self.left.append((step, dict(zip(names, now_left, strict=True))))

    def _scores(self, step: int) -> list[Tensor]:
        spec, parameters = self._spec, [self.network.parameters[name] for name in self._spec.names]
        match spec.by:
            case "magnitude":
                return [parameter.abs() for parameter in parameters]
            case "movement":
                assert self._movement is not None
                return self._movement.scores
            case "delta":
                return [(p - spec.origin[name].to(p)).abs() for name, p in zip(spec.names, parameters, strict=True)]
            case "random":
                return [
                    torch.rand(p.shape, generator=generator(self.network.seed, "gradual", step, name)).to(p.device)
                    for name, p in zip(spec.names, parameters, strict=True)
                ]
        assert spec.score is not None, f"no scores for {spec.by}"
        scores = spec.score(self.network.model.state_dict())
        return [scores[name].to(p.device) for name, p in zip(spec.names, parameters, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        movement = {} if self._movement is None else {"movement": list(self._movement.scores)}
        return {**super().state_dict(), **movement}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if self._movement is not None:
            for score, saved in zip(self._movement.scores, state["movement"], strict=True):
                score.copy_(saved)
