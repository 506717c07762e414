"""The arguments of trainings that change their masks or weights between steps, and of `grow` steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from tickdsl.moments import Moment
from tickdsl.plan.model import Evolve, Gradual, Grow, Penalty, Zeroing

#: Converts a percentage to the unit of a recipe.
Canonical = Callable[[Moment], Moment]


def gradual_args(gradual: Gradual, canonical: Canonical, prune: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a training in which a prune with these arguments removes its units in parts."""
    args = {
        "from": str(canonical(gradual.start)),
        "to": str(canonical(gradual.end)),
        "every": str(canonical(gradual.every)),
        "prune": dict(prune),
    }
    return {"gradual": args if gradual.curve == "cubic" else {**args, "curve": gradual.curve}}


def zeroing_args(zeroing: Zeroing, canonical: Canonical, prune: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a training in which what a prune would remove is set to zero from time to time."""
    return {"soft": {"every": str(canonical(zeroing.every)), "prune": dict(prune)}}


def evolve_args(evolve: Evolve, canonical: Canonical) -> dict[str, Any]:
    """The arguments of a training in which weights are exchanged."""
    args: dict[str, Any] = {
        "share": float(evolve.share),
        "grow": evolve.grow,
        "every": str(canonical(evolve.every)),
        "until": str(canonical(evolve.until)),
    }
    if evolve.fan_in == "constant":
        args["fan_in"] = "constant"
    elif evolve.grow == "random":
        args["version"] = 2  # at first, a number was drawn for every weight
    return {"evolve": args}


def penalty_args(penalty: Penalty) -> dict[str, Any]:
    """The arguments of a training with a growing penalty."""
    args = {"step": penalty.step, "every": str(penalty.every), "to": penalty.to}
    return {"penalty": args if penalty.power == 1 else {**args, "power": penalty.power}}


def penalty_length(penalty: Penalty) -> Moment:
    """How long a training with a growing penalty is: until its factor is reached, and as long as it is held."""
    increments = math.ceil(Fraction(str(penalty.to)) / Fraction(str(penalty.step)))
    return Moment(penalty.every.amount * increments + penalty.hold.amount, penalty.every.unit)


def grow_args(grow: Grow) -> dict[str, Any]:
    """The arguments of a step that puts weights back."""
    match grow.amount:
        case None:
            return {"unit": grow.unit}
        case Fraction():
            return {"unit": grow.unit, "share": float(grow.amount), "by": grow.by}
        case _:
            return {"unit": grow.unit, "count": grow.amount, "by": grow.by}
