"""Pruning criteria by name.

`protocol` defines the interface, `Criterion`. There is one module per family: `norms` (weights alone), `saliency` and
`taylor` (both with the gradients of `backpropagation`, the latter those of `gates` on units), `activations` (feature
maps), `similarity` (the network with and without a layer) and `plugin` (criteria that users add). `score_aggregation`
aggregates the scores of weights to filters and layers.
"""

from __future__ import annotations

import functools

from tickdsl.plugins import code_identity
from tickdsl.pruning.criteria import activations, norms, plugin, saliency, similarity, taylor
from tickdsl.pruning.criteria.protocol import Batch, Criterion, Sample, ScoringContext

__all__ = ["CRITERIA", "Batch", "Criterion", "Sample", "ScoringContext", "get_criterion"]

#: The built-in criteria.
CRITERIA: dict[str, Criterion] = {
    builtin.name: builtin
    for builtin in (
        norms.Magnitude(), norms.L1(), norms.L2(), norms.BatchNormScale(), norms.GeometricMedian(), norms.Delta(),
        norms.Movement(), norms.Random(),
        saliency.Snip(), saliency.Grasp(), saliency.GraspHalves(), saliency.SynFlow(), taylor.Taylor(),
        taylor.Gate(), taylor.SignedGate(),
        activations.HRank(), activations.ExpectedAbs(), similarity.Cka(), similarity.KlDivergence(),
    )
}  # fmt: skip


def get_criterion(name: str | Criterion) -> Criterion:
    """Look up a criterion, built in or a plug-in. Raises PluginError if there is none, or it cannot be loaded.

    A criterion itself is returned as it is.
    """
    if isinstance(name, Criterion):
        return name
    return CRITERIA[name] if name in CRITERIA else _plugin_criterion(name, code_identity("criterion", name))


@functools.cache
def _plugin_criterion(name: str, code: str) -> Criterion:
    return plugin.load_criterion(name)
