"""Learning rates that users add: a table of one rate a step, looked at before anything is trained by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickdsl.plugins import PluginError, call_plugin, load_plugin, require_plugin, type_in_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def learning_rates(name: str, recipe: object, steps: int, per_epoch: int) -> NDArray[np.float64]:
    """The rates that the plug-in `name` gives for a recipe, float64 [steps]. Raises PluginError."""
    import numpy as np

    plugin = require_plugin("schedule", name)
    schedule = load_plugin(plugin)
    if not callable(schedule):
        message = f"`{name}` is {type_in_words(schedule)}, not a schedule"
        raise PluginError(message, "name a function of recipe, steps and per_epoch")
    returned = call_plugin(plugin, schedule, recipe, steps, per_epoch)
    try:
        rates = np.array(returned, dtype=np.float64)
    except (TypeError, ValueError):
        message = f"`{name}` gives {type_in_words(returned)}, not learning rates"
        raise PluginError(message, f"give a list of {steps} numbers") from None
    if rates.shape != (steps,):
        message = f"`{name}` gives rates {list(rates.shape)} for {steps} steps"
        raise PluginError(message, f"give one rate for each step: [{steps}]")
    invalid = ~(np.isfinite(rates) & (rates >= 0))
    if invalid.any():
        first = int(invalid.argmax())
        message = f"`{name}` gives the rate {rates[first]:g} for step {first + 1} of {steps}"
        raise PluginError(message, "rates are finite, and not below 0")
    return rates
