"""The criteria, retraining schedules and metrics that a plan can name: built in or registered by plug-ins."""

from __future__ import annotations

import attrs

from tickdsl.lang.option_schemas import PLUGIN_SCHEDULE_OPTIONS, SCHEDULE_OPTIONS
from tickdsl.lang.vocabulary import METRICS, UNITS, WORD_SUMMARIES
from tickdsl.plugins import Plugin, PluginDescription, PluginError, Registry


@attrs.frozen
class Criterion:
    """A pruning criterion: the units it can rank, and what it needs besides the weights.

    needs: any of `data` (training images, drawn by the seed), `gradients`, `network` (a forward pass without data),
    `training` (its scores mean nothing on an untrained network) and `batch norm`.
    """

    summary: str
    units: tuple[str, ...]
    needs: tuple[str, ...] = ()


_CHANNELS, _HEADS, _LAYERS = ("filters", "neurons"), ("heads", "head-dims"), ("layers", "blocks")
_CRITERIA = {
    "magnitude": Criterion("mean absolute weight", UNITS),
    "l1": Criterion("sum of absolute weights", UNITS),
    "l2": Criterion("Euclidean norm of the weights; for layers, their root mean square", UNITS),
    "bn-scale": Criterion(
        "absolute scale of the batch norm after the filter", ("filters",), ("training", "batch norm")
    ),
    "fpgm": Criterion("mean distance to the other filters of the layer (FPGM)", _CHANNELS),
    "delta": Criterion("absolute change of the weight since initialisation", ("weights",), ("training",)),
    "movement": Criterion(
        "movement away from zero: the sum of -weight × gradient over the training (gradual prunes only)",
        ("weights",),
        ("training",),
    ),
    "random": Criterion("random scores, drawn by the seed", UNITS),
    "snip": Criterion("connection sensitivity |weight × gradient| (SNIP)", UNITS, ("data", "gradients")),
    "grasp": Criterion("decrease in gradient flow if the weight is removed (GraSP)", UNITS, ("data", "gradients")),
    "grasp-halves": Criterion(
        "GraSP, with the images in two halves by class, as in its authors' code", UNITS, ("data", "gradients")
    ),
    "synflow": Criterion(
        "synaptic flow, computed without data (SynFlow)", ("weights", *_CHANNELS, *_HEADS), ("network",)
    ),
    "taylor": Criterion(
        "squared first-order change in the loss",
        ("weights", *_CHANNELS, *_HEADS),
        ("data", "gradients", "training"),
    ),
    "gate": Criterion(
        "mean absolute derivative of the loss by a gate on the unit, relative to its layer",
        (*_CHANNELS, *_HEADS),
        ("data", "gradients", "training"),
    ),
    "gate-signed": Criterion(
        "`gate` with the sign of the derivative, as in the code of super tickets",
        (*_CHANNELS, *_HEADS),
        ("data", "gradients", "training"),
    ),
    "hrank": Criterion("mean rank of the feature maps (HRank)", ("filters", *_LAYERS), ("data",)),
    "expected-abs": Criterion("mean absolute activation", (*_CHANNELS, *_LAYERS), ("data",)),
    "cka": Criterion("change in the representation if the layer is removed (1 - CKA)", _LAYERS, ("data",)),
    "kl": Criterion("KL divergence of the output if the layer is removed", _LAYERS, ("data",)),
}
#: The values that `Criterion.needs` can hold.
CRITERION_NEEDS = ("data", "gradients", "network", "training", "batch norm")


def _plugin_criterion(plugin: Plugin, description: PluginDescription) -> Criterion:
    """A plug-in criterion. A function of rows of weights ranks every unit; a class lists its `units` and `needs`."""
    summary = description.summary or plugin.origin
    if description.function:
        return Criterion(summary, UNITS)
    attributes = {name: description.attributes.get(name, ()) for name in ("units", "needs")}
    for name, allowed in (("units", UNITS), ("needs", CRITERION_NEEDS)):
        value = attributes[name]
        if not isinstance(value, tuple | list) or any(word not in allowed for word in value):
            hint = f"give a tuple of {', '.join(map(repr, allowed))}"
            raise PluginError(f"`{plugin.name}` has invalid {name} = {value!r}", hint)
    if not attributes["units"]:
        raise PluginError(f"`{plugin.name}` does not say which units it ranks", 'write e.g. units = ("filters",)')
    return Criterion(summary, tuple(attributes["units"]), tuple(attributes["needs"]))


#: Criteria of `prune … by`.
CRITERIA: Registry[Criterion] = Registry("criterion", _CRITERIA, _plugin_criterion)

#: Unit -> the criterion of a `prune` without `by`. Filters are ranked by norm: under Kaiming initialisation norms are
#: similar in all layers, while mean absolute weights shrink and sums grow with the fan-in, so that a global ranking by
#: them would empty wide or narrow layers.
DEFAULT_CRITERIA = {
    "weights": "magnitude", "filters": "l2", "neurons": "l2", "heads": "l2", "head-dims": "l2", "layers": "l1",
}  # fmt: skip


@attrs.frozen
class Schedule:
    """A schedule of `retrain` and the options it accepts."""

    summary: str
    options: tuple[str, ...]


_SCHEDULES = {
    "fine-tune": "constant, at the recipe's last learning rate",
    "one-cycle": "cosine up to a peak and down again (CLR of Le & Hua)",
    "cyclic": "a short cosine warm-up, then a cosine down to the recipe's last learning rate",
    "scaled": "a warm-up, then the recipe's schedule compressed into the remaining steps (SLR of Le & Hua)",
    "linear": "a short cosine warm-up, then linear down to zero",
    "scratch": "the recipe, from new random weights",
    "recipe": "the recipe, stretched to the length, with any options of `train`",
}
#: Schedules of `retrain`.
SCHEDULES: Registry[Schedule] = Registry(
    "schedule",
    {name: Schedule(summary, SCHEDULE_OPTIONS[name]) for name, summary in _SCHEDULES.items()},
    lambda plugin, description: Schedule(description.summary or plugin.origin, PLUGIN_SCHEDULE_OPTIONS),
)
#: Metrics of `report`, with their summaries.
REPORT_METRICS: Registry[str] = Registry(
    "metric",
    {name: WORD_SUMMARIES[name] for name in METRICS},
    lambda plugin, description: description.summary or plugin.origin,
)
