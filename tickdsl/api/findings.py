"""Findings about a plan, as the Python interface returns and raises them."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from tickdsl.api.errors import ShortInNotebooks
from tickdsl.lang.findings.diagnostic_codes import Severity
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.findings.diagnostics import PlanError as _PlanError
from tickdsl.lang.findings.render import as_dict, render


@attrs.frozen(repr=False)
class Finding:
    """An error, warning or note about a plan. `print` shows it with the line of the plan that it is about.

    Attributes:
        code: The code that `tickdsl explain` explains, such as "TD103".
        name: The short name of the code, such as "unknown-criterion".
        severity: "error", "warning" or "note". A plan with errors cannot be run.
        message: What is wrong.
        help: What to write instead, if that is known.
        path: The file; "plan" if the plan was given as text.
        line: The line of the first character, from 1.
        column: The column of the first character, from 1.
        end_line: The line just after the last character.
        end_column: The column just after the last character.
    """

    code: str
    name: str
    severity: Severity
    message: str
    help: str | None
    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    _text: str = attrs.field(eq=False)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<{self.path}:{self.line}:{self.column}: {self.severity}[{self.code}] {self.message}>"


def finding_of(diagnostic: Diagnostic) -> Finding:
    """The public form of a diagnostic."""
    fields = as_dict(diagnostic)
    public = {field.name: fields[field.name] for field in attrs.fields(Finding) if field.name in fields}
    return Finding(**public, text=render([diagnostic]).rstrip("\n"))


class PlanError(_PlanError, ShortInNotebooks):
    """A plan has errors, which the message shows; nothing was run.

    Attributes:
        findings: All findings: the errors, and the warnings beside them.
    """

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        super().__init__(diagnostics)
        self.findings = tuple(finding_of(diagnostic) for diagnostic in self.diagnostics)

    def __str__(self) -> str:
        return "\n\n".join([self.message, *(str(finding) for finding in self.findings)])

    def __reduce__(self) -> tuple[type[PlanError], tuple[tuple[Diagnostic, ...]]]:
        return type(self), (self.diagnostics,)


PlanError.__module__ = "tickdsl"  # where users find it, and what tracebacks show
