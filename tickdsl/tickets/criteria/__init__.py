"""Criteria by name. `Criterion` is what one is; `register` adds one of your own.

A module per family: `norms` (weights alone), `saliency` (backpropagation), `activations` (feature maps), `similarity`
(with and without a layer); `aggregate` takes scores from weights to filters.
"""

from __future__ import annotations

from tickdsl.errors import TickdslError
from tickdsl.tickets.criteria import activations, norms, saliency, similarity
from tickdsl.tickets.criteria.protocol import Batch, Criterion, Sample, Subject

__all__ = ["CRITERIA", "Batch", "Criterion", "Sample", "Subject", "criterion", "register"]

CRITERIA: dict[str, Criterion] = {}


def register(added: Criterion) -> None:
    """Make a criterion known by its name. Raises ValueError where the name is taken."""
    if added.name in CRITERIA:
        raise ValueError(f"there is a criterion `{added.name}` already")
    CRITERIA[added.name] = added


def criterion(name: str) -> Criterion:
    """The criterion of that name. Raises TickdslError."""
    if name not in CRITERIA:
        raise TickdslError(f"no criterion `{name}`", f"one of {', '.join(CRITERIA)}")
    return CRITERIA[name]


for _known in (
    norms.Magnitude(), norms.L1(), norms.L2(), norms.BatchNormScale(), norms.GeometricMedian(), norms.Random(),
    saliency.Snip(), saliency.Grasp(), saliency.SynFlow(), saliency.Taylor(),
    activations.HRank(), activations.ExpectedAbs(), similarity.Cka(), similarity.Divergence(),
):  # fmt: skip
    register(_known)
