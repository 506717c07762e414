"""The next token of a text: cross-entropy per token, perplexity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tickdsl.training.tasks.protocol import BadTargets, Loss, Task, TaskMetric, average_log_probabilities

#: The target of a position that counts for nothing, as in torch's cross-entropy.
IGNORED = -100
#: The largest loss whose exponential is a float64; a network with a larger one has this perplexity.
_MAX_LOSS = 700.0
#: Tokens that are evaluated at once: each has as many logits as there are words in the vocabulary.
_EVALUATED_TOKENS = 1 << 14


class Language(Task):
    """Outputs are logits [B, T, V] of a vocabulary of V tokens; targets are the tokens that follow, integers [B, T].

    Targets are stored in the smallest type that holds them. Those that are -100 count for nothing. The loss is the mean
    over tokens, in nats; perplexity is its exponential, over the whole test set. A sample's score is the mean loss of
    its tokens. Distillation is that of a classifier, averaged over tokens.
    """

    name = "language"
    metrics = (
        TaskMetric("perplexity", higher_is_better=False),
        TaskMetric("loss", higher_is_better=False, unit="nats"),
    )
    has_logits = True
    score_dtype = torch.float32

    def as_targets(self, targets: NDArray[Any], names: Sequence[str]) -> NDArray[Any]:
        if targets.ndim != 2 or not targets.size or not np.issubdtype(targets.dtype, np.integer):
            raise BadTargets(
                f"is {targets.dtype} {list(targets.shape)}", "return the tokens that follow, as integers [N, T]"
            )
        counted = targets[targets != IGNORED] if np.issubdtype(targets.dtype, np.signedinteger) else targets
        if not counted.size:
            raise BadTargets("has no token to predict", f"return at least one target that is not {IGNORED}")
        low, high = int(counted.min()), int(counted.max())
        if low < 0 or high >= len(names):
            raise BadTargets(
                f"ranges from {low} to {high}, with a vocabulary of {len(names)}",
                f"return tokens from 0 to {len(names) - 1}, or {IGNORED} for positions that do not count",
            )
        return targets.astype(smallest_type(len(names), signed=counted.size < targets.size), copy=False)

    def chance(self, targets: Tensor) -> float:
        """The perplexity of the tokens' frequencies in the targets: the best answer that ignores the input."""
        tokens = targets.flatten().long()
        counts = tokens[tokens != IGNORED].bincount().double()
        shares = counts[counts > 0] / counts.sum()
        return math.exp(-float((shares * shares.log()).sum()))

    def weight(self, targets: Tensor) -> int:
        """The number of positions; those that do not count are included, so that nothing waits for the device."""
        return targets.numel()

    def counted(self, targets: Tensor) -> Tensor:
        """The number of positions that count, int64 []."""
        return (targets != IGNORED).sum()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return _cross_entropy(outputs, targets)

    def bind(self, *, label_smoothing: float = 0.0) -> Loss:
        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            return _cross_entropy(outputs, targets, label_smoothing=label_smoothing)

        return loss

    def bind_stacked(self, *, label_smoothing: float = 0.0) -> Loss:
        def losses(outputs: Tensor, targets: Tensor) -> Tensor:
            by_token = _cross_entropy(outputs, targets, label_smoothing=label_smoothing, reduction="none")
            return by_token.view(targets.shape).sum((0, 2)) / (targets != IGNORED).sum((0, 2))

        return losses

    def evaluation_batch(self, inputs: Tensor, most: int) -> int:
        return max(1, min(most, _EVALUATED_TOKENS // max(1, inputs.shape[1])))

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The summed loss, and the number of tokens."""
        loss = _cross_entropy(outputs, targets, reduction="none").double().sum()
        return torch.stack([loss, (targets != IGNORED).sum().double()])

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        by_token = _cross_entropy(outputs, targets, reduction="none").view(targets.shape)
        return by_token.sum(1) / (targets != IGNORED).sum(1).clamp_min(1)

    def figures(self, sums: Sequence[float], count: int) -> Mapping[str, float]:
        loss = sums[0] / max(sums[1], 1)
        return {"perplexity": math.exp(min(loss, _MAX_LOSS)), "loss": loss}

    def average(self, outputs: Sequence[Tensor]) -> Tensor:
        """The logarithms of the mean probabilities."""
        return average_log_probabilities(outputs, -1)

    def soften(self, outputs: Tensor, temperature: float) -> Tensor:
        """The log-probabilities [B, T, V], softened by the temperature."""
        return F.log_softmax(outputs.float() / temperature, dim=-1)

    def distil(self, outputs: Tensor, softened: Tensor, temperature: float, weight: float) -> Tensor:
        """Weight x temperature^2 x KL(teacher || student), averaged over the batch's tokens."""
        log_probs = F.log_softmax(outputs.float() / temperature, dim=-1).flatten(0, -2)
        divergence = F.kl_div(log_probs, softened.flatten(0, -2), reduction="batchmean", log_target=True)
        return weight * temperature**2 * divergence


def smallest_type(vocabulary: int, *, signed: bool = False) -> type[np.integer[Any]]:
    """The smallest integer type for tokens in 0..vocabulary-1. signed: negative numbers occur too."""
    if vocabulary <= 256 and not signed:
        return np.uint8
    return np.int16 if vocabulary <= 1 << 15 else np.int32


def _cross_entropy(outputs: Tensor, targets: Tensor, **options: Any) -> Tensor:
    """torch's cross-entropy of logits [..., V] and targets [...] of any integer type, flattened to one dimension."""
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten().long(), ignore_index=IGNORED, **options)
