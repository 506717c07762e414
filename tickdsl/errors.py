"""What a user can cause, said once: the message names the place, the hint the way out."""

from __future__ import annotations


class TickdslError(Exception):
    """An error that a user caused and can cure. Never shown with a traceback."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  help: {self.hint}" if self.hint else self.message
