"""The dialog with the details of a step or a log line."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from ..views.detail import step_lines
from ..views.log import LogRow, step_description
from ..views.snapshot import Snapshot
from ..views.workers import worker_lines


class Detail(ModalScreen[None]):
    """A scrollable text; esc, q or enter closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", "Close", id="detail.close"),
        Binding("j", "scroll(1)", "Down", show=False, id="detail.down"),
        Binding("k", "scroll(-1)", "Up", show=False, id="detail.up"),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self.heading = title
        self.text = text

    @classmethod
    def of_step(cls, step: str, snapshot: Snapshot) -> Detail:
        """The details of a step."""
        return cls(step_description(step, snapshot), "\n".join(step_lines(step, snapshot)))

    @classmethod
    def of_log(cls, row: LogRow, snapshot: Snapshot) -> Detail:
        """The full text of a log line and the details of its step."""
        details = ["", *step_lines(row.step, snapshot)] if row.step in snapshot.state.steps else []
        return cls(row.kind, "\n".join([row.text, *details]))

    @classmethod
    def of_workers(cls, snapshot: Snapshot) -> Detail:
        """What runs where, and who is idle."""
        return cls("Workers", "\n".join(worker_lines(snapshot)))

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog") as box:
            box.border_title = Content(self.heading)
            box.border_subtitle = "esc to close"
            yield Static(Text(self.text))

    def action_scroll(self, by: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)
