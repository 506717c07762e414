"""Reasons why an option of a statement does nothing beside other settings; the option schemas name them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import attrs

from tickdsl.moments import Moment
from tickdsl.training.recipes.recipe import NO_PATIENCE

#: The schedules of `train` that tickdsl defines. Plug-ins may read every option.
SCHEDULES = ("constant", "milestones", "cosine", "one-cycle", "linear")


@attrs.frozen
class Is:
    """Holds for some values of a setting; with `negated`, for all others."""

    values: tuple[Any, ...]
    negated: bool = False

    def holds(self, value: Any) -> bool:
        """Whether the condition holds for a value."""
        return (value in self.values) is not self.negated


@attrs.frozen
class NoEffect:
    """A reason why an option does nothing.

    settings: what other settings have to be for that; all must hold. A setting is an option by its name, with its
    default if it is not written, or one of `retrain` (the schedule after `retrain`), `rise` (the form of the warm-up),
    `controls`, `pruned-controls` and `arms` (how many are compared).
    beside: options that have to be written in the same statement.
    why: completes "`gamma=` has no effect …"; `{opt}` is the setting `opt`. help: what to do instead.
    """

    why: str
    help: str
    settings: Mapping[str, Is] = attrs.field(factory=dict)
    beside: tuple[str, ...] = ()

    def holds(self, settings: Mapping[str, Any], written: Collection[str]) -> bool:
        """Whether this is why an option does nothing, given all settings and the options written beside it."""
        return set(self.beside) <= set(written) and all(
            name in settings and condition.holds(settings[name]) for name, condition in self.settings.items()
        )


def only_with(schedule: str, cure: str) -> NoEffect:
    """An option that only one of the built-in schedules reads; plug-ins may read any."""
    others = tuple(name for name in SCHEDULES if name != schedule)
    return NoEffect(f"with `schedule={{schedule}}`: only `{schedule}` uses it", cure, {"schedule": Is(others)})


ONE_CYCLE_ONLY = only_with("one-cycle", "use `schedule=one-cycle`, or remove it")
GAMMA_IDLE = only_with("milestones", "add `milestones=[…]`, or remove it")
NO_WARMUP = NoEffect(
    "here: the retraining has no warm-up, which takes whole epochs or steps",
    "train longer, use a larger `pct-start=`, or remove it",
    {"retrain": Is(("scaled",)), "rise": Is(("linear",)), "schedule": Is(("constant", "cosine", "linear"))},
)
STRETCHED_ONE_CYCLE = NoEffect(
    "here: the recipe is one-cycle, which `retrain scaled` only stretches",
    "use `retrain one-cycle`, or remove it",
    {"retrain": Is(("scaled",)), "schedule": Is(("one-cycle",))},
)
NO_RISE = NoEffect(
    "without `warmup=`",
    "add e.g. `warmup=5ep`, or remove it",
    {"warmup": Is(tuple(Moment.parse(f"0{unit}") for unit in ("it", "ep", "%")))},
)
WITHOUT_PATIENCE = NoEffect(
    "without `patience=`", "add e.g. `patience=5ep`, or remove it", {"patience": Is((NO_PATIENCE,))}
)
NO_CONTROL = NoEffect("without a control", "compare with `random-init`, or remove it", {"controls": Is((0,))})
NO_ARM_PAIR = NoEffect(
    "with a single arm: it says at which levels two arms are compared", "remove it", {"arms": Is((0, 1))}
)
NO_RANDOM_STRUCTURE = NoEffect(
    "without `random-structure`", "compare with it, or remove the option", {"random-structures": Is((0,))}
)
NO_PRUNED_CONTROL = NoEffect(
    "without `random-init` or `random-structure`",
    "compare with one of them, or remove it",
    {"pruned-controls": Is((0,))},
)
