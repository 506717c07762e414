"""The commands of the monitor in Textual's command palette."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from textual.app import SystemCommand
from textual.binding import Binding, BindingType

from .keys import TAB_TITLES, VIEWS, key_label

_LEFT_OUT = ("view(", "command_palette", "end_filter")  # prefixes of actions that need no command


def system_commands(
    bindings: Iterable[BindingType],
    arms: Iterable[str],
    show_view: Callable[[str], None],
    show_layers: Callable[[str], None],
    run_action: Callable[[str], None],
) -> Iterator[SystemCommand]:
    """A command for each screen, each key binding, and the layers of each arm."""
    for number, name in enumerate(VIEWS, 1):
        yield SystemCommand(f"Show {TAB_TITLES[name]}", f"screen {number}", lambda name=name: show_view(name))
    for binding in bindings:
        if isinstance(binding, Binding) and not binding.action.startswith(_LEFT_OUT):
            help_text = f"key {key_label(binding.key)}"
            yield SystemCommand(binding.description, help_text, lambda action=binding.action: run_action(action))
    for arm in arms:
        yield SystemCommand(f"Layers of {arm}", "what remains of each layer", lambda arm=arm: show_layers(arm))
