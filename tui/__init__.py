"""The monitor: a Textual app that reads a run's events and draws them. Imported as `tickdsl.tui`; loads no torch.

`views` holds what the screens say (rows, curves, marks) and names no textual; `widgets` and `screens` draw it.
"""

from .app import Monitor, watch
from .recording import ReplayMonitor, replay
from .replay import ReplaySource
from .source import EventSource

__all__ = ["EventSource", "Monitor", "ReplayMonitor", "ReplaySource", "replay", "watch"]
