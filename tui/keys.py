"""The screens with their keys, and what the key line and the help say of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.binding import Binding, BindingType

from .screens.help import Section
from .screens.view import View

VIEWS = ("run", "layers", "compare", "plan", "log")
TABS = {"run": "Run", "layers": "Layers", "compare": "Compare", "plan": "Plan", "log": "Log"}
_NAMES = {
    "question_mark": "?", "slash": "/", "left_square_bracket": "[", "right_square_bracket": "]", "comma": ",",
    "full_stop": ".", "escape": "esc", "left": "←", "right": "→", "up": "↑", "down": "↓", "plus": "+", "minus": "-",
    "equals_sign": "=", "shift+left": "shift ←", "shift+right": "shift →", "ctrl+p": "ctrl p", "ctrl+c": "ctrl c",
    "pageup": "page up", "pagedown": "page down",
}  # fmt: skip


def named(key: str) -> str:
    """A binding's keys as a person reads them."""
    return " ".join(_NAMES.get(part.strip(), part.strip()) for part in key.split(","))


def line_of(view: View, own: Sequence[tuple[str, str]], paused: bool) -> list[tuple[str, str]]:
    """What the key line says on a screen, the most important first and help last."""
    first = [(key, "resume" if key == "p" and paused else said) for key, said in own]
    return [*first, *view.KEYS, ("/", "filter"), ("?", "help")]


def sections(view: View, app: Iterable[BindingType], rows: Iterable[BindingType]) -> list[Section]:
    """All keys: of the monitor, of the screen that is seen, of its lists."""
    name = TABS.get(view.id or "", "This screen")
    return [("Everywhere", _table(app)), (name, _table(view.BINDINGS)), ("Lists", _table(rows))]


def _table(bindings: Iterable[BindingType]) -> list[tuple[str, str]]:
    return [(named(b.key), b.description) for b in bindings if isinstance(b, Binding)]
