"""Whether a network takes several inputs by keyword."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from tickdsl.errors import InputsMismatchError
from tickdsl.training.catalogue.input_shapes import NamedShapes

_HINT = "rename the arrays and `inputs=`, or the parameters of `forward`: the network is called as `network(**inputs)`"


def require_keywords(name: str, forward: Callable[..., Any], shapes: NamedShapes, *, any_keyword: bool = True) -> None:
    """Raise InputsMismatchError unless `forward` takes these inputs by keyword, and needs no others.

    name: of the network, for the message. any_keyword: whether `**keywords` stand for inputs of any name.
    """
    try:
        parameters = inspect.signature(forward).parameters
    except (TypeError, ValueError):  # code without a signature shows what it takes when it runs
        return
    kinds = inspect.Parameter
    takes_all = any_keyword and any(each.kind == kinds.VAR_KEYWORD for each in parameters.values())
    by_keyword = {
        word: each
        for word, each in parameters.items()
        if each.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    }
    unknown = [word for word in shapes if word not in by_keyword]
    if unknown and not takes_all:
        words = ", ".join(word for word in parameters if word != "self") or "nothing"
        raise InputsMismatchError(
            f"the network of `{name}` does not take the {_named(unknown)}: its `forward` takes {words}", _HINT
        )
    missing = [word for word, each in by_keyword.items() if each.default is kinds.empty and word not in shapes]
    if missing:
        raise InputsMismatchError(
            f"the network of `{name}` needs the {_named(missing)}, which the data does not have: "
            f"its inputs are {', '.join(shapes)}",
            _HINT,
        )


def _named(words: list[str]) -> str:
    return ("input " if len(words) == 1 else "inputs ") + ", ".join(f"`{word}`" for word in words)


def one_input_error(name: str, shapes: NamedShapes) -> InputsMismatchError:
    """The error for a network that takes one input only."""
    return InputsMismatchError(
        f"{name} takes one input, but the data has {len(shapes)}: {', '.join(shapes)}",
        "use a network of your own whose `forward` takes them by keyword, or one of hf",
    )
