"""A rich console for what is printed about plans and runs of others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Literal

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from tickdsl.printable import printable


class SafeConsole(Console):
    """A console on which no text is more than text: control characters are shown as escapes, and nothing is markup."""

    def __init__(self, *, width: int | None = None, file: IO[str] | None = None) -> None:
        # In the kernel of a notebook, rich would display what is printed instead of printing it, and colour any file.
        colours: Literal["auto"] | None = "auto" if file is None else None
        super().__init__(
            file=file,
            width=width,
            color_system=colours,
            markup=False,
            emoji=False,
            highlight=False,
            force_jupyter=False,
        )

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Let the command line handle a closed pipe (head, less) instead of exiting with 1."""
        raise BrokenPipeError
