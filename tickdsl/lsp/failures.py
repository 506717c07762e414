"""Errors of the language server itself: shown in the editor in place of findings or an answer, which would be stale."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInternalError, JsonRpcInvalidParams

from tickdsl.errors import TickdslError
from tickdsl.lang.findings.internal_errors import internal_error
from tickdsl.lang.syntax import Source, Span

Handler = TypeVar("Handler", bound=Callable[..., Any])


def failure_diagnostic(error: Exception) -> types.Diagnostic:
    """The only diagnostic of a file that could not be checked, at its start."""
    return types.Diagnostic(
        range=types.Range(types.Position(0, 0), types.Position(0, 1)),
        message=_described(error),
        severity=types.DiagnosticSeverity.Error,
        code=None if isinstance(error, TickdslError) else "TD017",
        source="tickdsl",
    )


def answering(handler: Handler) -> Handler:
    """A request handler that answers with an error that says what failed, instead of a traceback."""

    @functools.wraps(handler)
    def answer(*args: Any, **options: Any) -> Any:
        try:
            return handler(*args, **options)
        except JsonRpcException:
            raise
        except TickdslError as error:
            raise JsonRpcInvalidParams(_described(error)) from error
        except Exception as error:
            raise JsonRpcInternalError(_described(error)) from error

    return answer  # type: ignore[return-value]


def _described(error: Exception) -> str:
    if isinstance(error, TickdslError):
        return str(error)
    found = internal_error(error, Span(Source("", ""), 0, 0))
    return f"{found.message}\nhelp: {found.help}"
