"""The base class of errors that are shown to the user without a traceback."""

from __future__ import annotations


class TickdslError(Exception):
    """An error that the user can fix. `message` says what is wrong and where, `hint` what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  help: {self.hint}" if self.hint else self.message
