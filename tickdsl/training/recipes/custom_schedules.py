"""Learning rates that users add: a table of one rate a step, looked at before anything is trained by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickdsl.plugins import PluginError, called, kind_of, load, required

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def rates(name: str, recipe: object, steps: int, per_epoch: int) -> NDArray[np.float64]:
    """The rates that the plug-in `name` gives for a recipe, float64 [steps]. Raises PluginError."""
    import numpy as np

    plugin = required("schedule", name)
    schedule = load(plugin)
    if not callable(schedule):
        message = f"`{name}` is {kind_of(schedule)}, not a schedule"
        raise PluginError(message, "name a function of recipe, steps and per_epoch")
    given = called(plugin, schedule, recipe, steps, per_epoch)
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
