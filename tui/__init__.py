"""The monitor, a Textual app that shows a run from its events. Imported as `tickdsl.tui`; imports no torch.

`views` builds the content of the screens (rows, curves, lines) without Textual; `widgets` and `screens` show it.
"""

from .app import Monitor, watch
from .event_source import EventSource
from .replay_monitor import ReplayMonitor, replay
from .replay_source import ReplaySource

__all__ = ["EventSource", "Monitor", "ReplayMonitor", "ReplaySource", "replay", "watch"]
