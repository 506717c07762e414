"""Learning rates that users add: a table of one rate a step, looked at before anything is trained by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from tickdsl.plugins import PluginError, called, kind_of, load, required

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tickdsl.training.recipes import Recipe


class Schedule(Protocol):
    """Gives the learning rate of every step of a training of `steps` steps, `per_epoch` of them an epoch.

    `recipe` is what the plan says of the training: `recipe.lr`, `recipe.gamma`, `recipe.pct_start` and so on. A warm-up
    comes on top. The same numbers at each call.
    """

    def __call__(self, recipe: Recipe, steps: int, per_epoch: int, /) -> Sequence[float]: ...


def rates(recipe: Recipe, steps: int, per_epoch: int) -> NDArray[np.float64]:
    """The rates of a recipe whose schedule is a plug-in, float64 [steps]. Raises PluginError."""
    import numpy as np

    name = recipe.schedule
    plugin = required("schedule", name)
    schedule = cast(Schedule, load(plugin))
    if not callable(schedule):
        message = f"`{name}` is {kind_of(schedule)}, not a schedule"
        raise PluginError(message, "name a function of recipe, steps and per_epoch")
    given = called(plugin, cast(Callable[..., Any], schedule), recipe, steps, per_epoch)
    try:
        found = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        message = f"`{name}` gives {kind_of(given)}, not learning rates"
        raise PluginError(message, f"give a list of {steps} numbers") from None
    if found.shape != (steps,):
        message = f"`{name}` gives rates {list(found.shape)} for {steps} steps"
        raise PluginError(message, f"give one rate for each step: [{steps}]")
    wrong = ~(np.isfinite(found) & (found >= 0))
    if wrong.any():
        first = int(wrong.argmax())
        message = f"`{name}` gives the rate {found[first]:g} for step {first + 1} of {steps}"
        raise PluginError(message, "rates are finite, and not below 0")
    return found
