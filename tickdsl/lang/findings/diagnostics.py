"""The diagnostic type: one structure for every error, warning and note. `render` and `sarif` print it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs

from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostic_codes import CODES, Severity
from tickdsl.lang.syntax import Span
from tickdsl.plurals import plural
from tickdsl.printable import printable, printable_value

#: The longest text that a message quotes.
_MAX_QUOTE = 100
_LONG_QUOTE = re.compile(rf"`[^`\n]{{{_MAX_QUOTE + 1},}}`")


def _quotable(text: str) -> str:
    """The text as it may be printed, with every long quote of a plan cut."""
    text = printable(text)
    return _LONG_QUOTE.sub(lambda quote: f"{quote[0][:_MAX_QUOTE]}…`", text) if len(text) > _MAX_QUOTE else text


@attrs.frozen
class Label:
    """A secondary location of a diagnostic, with a text."""

    span: Span
    text: str = attrs.field(converter=printable)


@attrs.frozen
class Diagnostic:
    """An error, warning or note about a plan.

    message: what is wrong. label: a short text at `span`. secondary: related locations. notes: further facts.
    help: what to write instead. All texts are made printable, since they quote the plan.
    """

    code: str = attrs.field(validator=attrs.validators.in_(CODES))
    message: str = attrs.field(converter=_quotable)
    span: Span
    label: str = attrs.field(default="", converter=_quotable)
    secondary: tuple[Label, ...] = ()
    notes: tuple[str, ...] = attrs.field(default=(), converter=printable_value)
    help: str | None = attrs.field(default=None, converter=attrs.converters.optional(_quotable))

    @property
    def slug(self) -> str:
        return CODES[self.code][0]

    @property
    def severity(self) -> Severity:
        return CODES[self.code][1]


class PlanError(TickdslError):
    """Raised if a plan has errors; `diagnostics` holds all diagnostics, warnings and notes included."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        errors = sum(d.severity == "error" for d in self.diagnostics)
        super().__init__(f"the plan has {plural(errors, 'error')}")
