"""docs/how-to/monitor.md lists every key binding."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.binding import Binding
from tickdsl.tui.app import Monitor
from tickdsl.tui.keys import key_label
from tickdsl.tui.replay_monitor import ReplayMonitor
from tickdsl.tui.screens.compare import CompareView
from tickdsl.tui.screens.layers import LayersView
from tickdsl.tui.screens.plan import PlanView
from tickdsl.tui.screens.run import RunView

DOCS = (Path(__file__).parents[2] / "docs" / "how-to" / "monitor.md").read_text()


@pytest.mark.parametrize("owner", [Monitor, ReplayMonitor, RunView, LayersView, CompareView, PlanView])
def test_every_key_is_in_the_manual(owner: type) -> None:
    bindings = [binding for binding in owner.BINDINGS if isinstance(binding, Binding) and binding.show]
    assert bindings
    for binding in bindings:
        assert f"| `{key_label(binding.key)}` | {binding.description} |" in DOCS
