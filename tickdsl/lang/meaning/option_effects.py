"""Warn about options that have no effect beside the other settings of their statement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.meaning.values import ValueReader
from tickdsl.lang.option_schemas import OptionType


def report(
    options: Iterable[syntax.Option],
    schema: Mapping[str, OptionType],
    settings: Mapping[str, Any],
    reader: ValueReader,
) -> None:
    """Report TD119 for every option that does nothing. `settings` holds what `NoEffect` compares with."""
    options = [option for option in options if option.key.text in schema]
    written = {option.key.text for option in options}
    for option in options:
        name = option.key.text
        reason = schema[name].reason_for_no_effect(settings, written)
        if reason is not None:
            message = f"`{name}=` has no effect {reason.why.format_map(settings)}"
            reader.report(Diagnostic("TD119", message, option.span, help=reason.help))
