"""The monitor: a Textual app that reads a run's events and draws them. Imported as `tickdsl.tui`; loads no torch.

`views` holds what the screens say (rows, curves, marks) and names no textual; `widgets` and `screens` draw it.
"""

from .app import Monitor, watch
from .event_source import EventSource
from .replay_monitor import ReplayMonitor, replay
from .replay_source import ReplaySource

__all__ = ["EventSource", "Monitor", "ReplayMonitor", "ReplaySource", "replay", "watch"]
