"""Names of the screens and labels of keys, for the key bar and the help."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.binding import Binding, BindingType

from .screens.help import Section
from .screens.view import View

VIEWS = ("run", "layers", "compare", "plan", "log")
TAB_TITLES = {"run": "Run", "layers": "Layers", "compare": "Compare", "plan": "Plan", "log": "Log"}
_KEY_LABELS = {
    "question_mark": "?", "slash": "/", "left_square_bracket": "[", "right_square_bracket": "]", "comma": ",",
    "full_stop": ".", "escape": "esc", "left": "←", "right": "→", "up": "↑", "down": "↓", "plus": "+", "minus": "-",
    "equals_sign": "=", "shift+left": "shift ←", "shift+right": "shift →", "ctrl+p": "ctrl p", "ctrl+c": "ctrl c",
    "pageup": "page up", "pagedown": "page down",
}  # fmt: skip


def key_label(key: str) -> str:
    """The keys of a binding in readable form."""
    return " ".join(_KEY_LABELS.get(part.strip(), part.strip()) for part in key.split(","))


def key_of(label: str) -> str:
    """The key of a label in the key bar."""
    return next((key for key, text in _KEY_LABELS.items() if text == label), label)


def key_line_items(view: View, app_keys: Sequence[tuple[str, str]], paused: bool) -> list[tuple[str, str]]:
    """The (key, description) pairs of the key bar, most important first and help last."""
    first = [(key, "resume" if key == "p" and paused else description) for key, description in app_keys]
    return [*first, *view.KEYS, ("/", "filter"), ("?", "help")]


def help_sections(
    view: View, app_bindings: Iterable[BindingType], list_bindings: Iterable[BindingType]
) -> list[Section]:
    """The keys of the monitor, of the visible screen, and of lists."""
    name = TAB_TITLES.get(view.id or "", "This screen")
    return [
        ("Everywhere", _key_table(app_bindings)),
        (name, _key_table(view.BINDINGS)),
        ("Lists", _key_table(list_bindings)),
    ]


def _key_table(bindings: Iterable[BindingType]) -> list[tuple[str, str]]:
    return [(key_label(b.key), b.description) for b in bindings if isinstance(b, Binding)]
