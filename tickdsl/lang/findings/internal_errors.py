"""Errors of tickdsl itself while it checks a plan: reported as a finding, so that everything else is still checked."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from tickdsl.errors import TickdslError
from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic

ISSUES = "https://github.com/tickdsl/tickdsl/issues"

T = TypeVar("T")


def guarded(find: Callable[[], Iterable[Diagnostic]], span: syntax.Span) -> list[Diagnostic]:
    """The findings of `find`; if it fails, those before the failure and the failure itself, by default at `span`.

    A TickdslError passes through: it is for the user.
    """
    found: list[Diagnostic] = []
    try:
        for diagnostic in find():
            found.append(diagnostic)
    except TickdslError:
        raise
    except Exception as error:
        found.append(internal_error(error, span))
    return found


def attempt(work: Callable[[], T], default: Any, span: syntax.Span, report: Callable[[Diagnostic], None]) -> T:
    """The result of `work`; if it fails, `default`, and the failure is reported, by default at `span`.

    A TickdslError passes through: it is for the user.
    """
    try:
        return work()
    except TickdslError:
        raise
    except Exception as error:
        report(internal_error(error, span))
        result: T = default
        return result


def internal_error(error: Exception, span: syntax.Span) -> Diagnostic:
    """The finding for an unexpected error; at the statement that was being checked, if the traceback knows it."""
    frames = []
    traceback: types.TracebackType | None = error.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame)
        where = f"{Path(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    for frame in reversed(frames):
        statements = [value for value in frame.f_locals.values() if isinstance(value, syntax.Statement)]
        if statements:
            span = statements[-1].span
            break
    message = f"internal error: {type(error).__name__}: {error} ({where})" if frames else f"internal error: {error!r}"
    help = f"this is a bug in tickdsl: please report it with the plan at {ISSUES}"
    return Diagnostic("TD017", message, span, help=help)
