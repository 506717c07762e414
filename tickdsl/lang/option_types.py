"""Options as the language writes them and as recipes and the catalogue name them."""

from __future__ import annotations

from typing import Any

from tickdsl.lang.vocabulary import OptionType


def option_types(options: Any) -> dict[str, OptionType]:
    """The catalogue's option table as the language reads it."""
    kinds = {int: "int", float: "float", str: "text", bool: "flag"}
    return {
        name: OptionType(kinds[option.type], option.summary, least=getattr(option, "least", None))
        for name, option in options.items()
    }


def recipe_field(option: str) -> str:
    """A `train` option's name in a recipe."""
    return "optimizer" if option == "opt" else option.replace("-", "_")
