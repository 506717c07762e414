"""Learning-rate schedules from plug-ins, checked before anything is trained with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tickdsl.plugins import PluginError, call_plugin, load_plugin, require_plugin, type_in_words
from tickdsl.plurals import plural

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def learning_rates(name: str, recipe: object, steps: int, per_epoch: int) -> NDArray[np.float64]:
    """The learning rates that the plug-in `name` returns for a recipe, float64 [steps].

    per_epoch: steps per epoch. Raises PluginError if the plug-in fails or returns anything else.
    """
    import numpy as np

    plugin = require_plugin("schedule", name)
    schedule = load_plugin(plugin)
    if not callable(schedule):
        message = f"`{name}` is {type_in_words(schedule)}, not a schedule"
        raise PluginError(message, "name a function with parameters recipe, steps and per_epoch")
    returned = call_plugin(plugin, schedule, recipe, steps, per_epoch)
    try:
        rates = np.array(returned, dtype=np.float64)
    except (TypeError, ValueError):
        message = f"`{name}` returns {type_in_words(returned)}, not learning rates"
        raise PluginError(message, f"return a list of {plural(steps, 'number')}") from None
    if rates.shape != (steps,):
        message = f"`{name}` returns rates of shape {list(rates.shape)} for {plural(steps, 'step')}"
        raise PluginError(message, f"return one rate per step: shape [{steps}]")
    invalid = ~(np.isfinite(rates) & (rates >= 0))
    if invalid.any():
        first = int(invalid.argmax())
        message = f"`{name}` returns the rate {rates[first]:g} for step {first + 1} of {steps}"
        raise PluginError(message, "return finite rates of at least 0")
    return rates
