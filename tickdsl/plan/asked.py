"""The steps that answer what `report` asks beside accuracy: each reads a trained network and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from tickdsl.plan.builder import Builder
from tickdsl.plan.steps import Step


@attrs.frozen
class Surroundings:
    """What measurements depend on beside the network: `shifted` names published test sets in the data folder by their
    digests, by the data sets that they may belong to.
    """

    shifted: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)


ALONE = Surroundings()


def answers(
    steps: Builder, measured: str, contestant: str, metrics: Sequence[str], around: Surroundings
) -> Iterator[tuple[str, str]]:
    """Of each metric of `metrics` that takes a step of its own: the metric, and the step for the network that the
    training (or evaluation) `measured` left.
    """
    trained: Step = steps.graph.nodes[measured]["step"]
    for metric in metrics:
        if metric == "robustness":
            yield metric, steps.add("robustness", _robustness(trained, around), _network(measured, trained), metric)


def _network(measured: str, trained: Step) -> dict[str, str]:
    """The parents of a step that looks at trained weights."""
    structure = trained.parents.get("structure")
    return {"weights": measured, **({"structure": structure} if structure else {})}


def _robustness(trained: Step, around: Surroundings) -> dict[str, Any]:
    args = {"model": trained.args["model"], "data": trained.args["data"]}
    if (precision := trained.args.get("recipe", {}).get("precision", "fp32")) != "fp32":
        args["precision"] = precision
    if shifted := around.shifted.get(trained.args["data"]["name"]):
        args["shifted"] = dict(shifted)
    return args
