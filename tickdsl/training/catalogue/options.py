"""The options that a plan can give to a model or a data set."""

from __future__ import annotations

from typing import Any

import attrs

from tickdsl.plugins import PluginDescription

#: The types that an option can have.
_OPTION_TYPES = (bool, int, float, str)


@attrs.frozen
class Option:
    """A `key=value` option of a model or a data set.

    least, most: the bounds of its values (None: unbounded). among: the only allowed values (empty: all).
    is_share: a plan gives it as a percentage, above 0% and below 100%.
    """

    type: type
    default: Any
    summary: str
    least: float | None = None
    most: float | None = None
    among: tuple[int | str, ...] = ()
    is_share: bool = False

    def requirement_missed_by(self, value: Any) -> str | None:
        """What a value has to be and is not, such as `at least 1`; None if the value is allowed."""
        return requirement_missed_by(value, self.least, self.most, self.among)


#: Which parts of the weights are loaded; every model has this option.
MAP = Option(str, "", 'load parts of `weights` into parts of the network, e.g. "encoder*=encoder*"')


def format_number(number: float) -> str:
    """A number for a message: whole ones with commas."""
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:g}"


def requirement_missed_by(
    value: Any, least: float | None, most: float | None, among: tuple[int | str, ...] = ()
) -> str | None:
    """What a value of these bounds has to be and is not, such as `at least 1`; None if the value is allowed."""
    if among and value not in among:
        return " or ".join(map(str, among))
    if least is not None and not value >= least:  # also for values that are no number
        return f"at least {format_number(least)}"
    if most is not None and not value <= most:
        return f"at most {format_number(most)}"
    return None


def plugin_options(description: PluginDescription, reserved: tuple[str, ...] = ()) -> dict[str, Option]:
    """The parameters of a plug-in's factory that a plan can set: those whose default is a number, a string or a bool.

    reserved: parameters that tickdsl always passes itself.
    """
    return {
        name.replace("_", "-"): Option(type(default), default, f"parameter `{name}` of the factory")
        for name, default in description.parameters.items()
        if isinstance(default, _OPTION_TYPES) and name not in reserved
    }
