"""Criteria by name. `Criterion` is what one is.

A module per family: `norms` (weights alone), `saliency` (backpropagation), `activations` (feature maps), `similarity`
(with and without a layer), `own` (those that users add); `aggregate` takes scores from weights to filters.
"""

from __future__ import annotations

import functools

from tickdsl.plugins import identity
from tickdsl.pruning.criteria import activations, custom, norms, saliency, similarity
from tickdsl.pruning.criteria.protocol import Batch, Criterion, Sample, Subject

__all__ = ["CRITERIA", "Batch", "Criterion", "Sample", "Subject", "criterion"]

#: Those that are built in.
CRITERIA: dict[str, Criterion] = {
    known.name: known
    for known in (
        norms.Magnitude(), norms.L1(), norms.L2(), norms.BatchNormScale(), norms.GeometricMedian(), norms.Random(),
        saliency.Snip(), saliency.Grasp(), saliency.SynFlow(), saliency.Taylor(),
        activations.HRank(), activations.ExpectedAbs(), similarity.Cka(), similarity.Divergence(),
    )
}  # fmt: skip


def criterion(name: str) -> Criterion:
    """The criterion of that name, built in or a plug-in. Raises PluginError."""
    return CRITERIA[name] if name in CRITERIA else _own(name, identity("criterion", name))


@functools.cache
def _own(name: str, code: str) -> Criterion:
    return custom.own(name)
