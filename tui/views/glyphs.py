"""Glyphs and colours. Colour is never the only cue: every status has a glyph and every arm a marker."""

from __future__ import annotations

import attrs

STATUS_GLYPHS = {
    "waiting": "○",
    "running": "◐",
    "done": "●",
    "stored": "◉",
    "skipped": "⊘",
    "failed": "✗",
    "pausing": "◐",
    "paused": "⏸",
    "stopping": "◐",
    "stopped": "■",
    "interrupted": "■",
    "ok": "●",
    "crashed": "✗",
    "presumed crashed": "✗",
}
MARKERS, HOLLOW_MARKERS = "●■▲◆▼★✚", "○□△◇▽☆✛"  # hollow: not all seeds are measured yet
CONTROL_MARKERS = "×+∗÷"
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
EIGHTHS = " ▏▎▍▌▋▊▉█"
SPARKS = "▁▂▃▄▅▆▇█"


@attrs.frozen
class Palette:
    """The colours of a theme in Rich notation; `arms` are Okabe and Ito's, as far as they contrast with `ground`."""

    ground: str
    ink: str
    dim: str
    rule: str
    good: str
    bad: str
    unsure: str
    accent: str
    cursor: str
    arms: tuple[str, ...]
    layers: tuple[str, ...]

    def layer(self, index: int) -> str:
        """The colour of the layer with this index in a chart; layers have other colours than arms."""
        return self.layers[index % len(self.layers)]

    def arm(self, index: int) -> str:
        """The colour of the arm with this index in the plan."""
        return self.arms[index % len(self.arms)]

    def status(self, status: str) -> str:
        """The colour of the status of a step or run."""
        if status in ("failed", "crashed", "presumed crashed"):
            return self.bad
        if status in ("done", "ok"):
            return self.good
        if status in ("running",):
            return self.accent
        return self.unsure if status in ("pausing", "paused", "stopping", "stopped", "interrupted") else self.dim


# Okabe and Ito, "Color Universal Design", 2008; darkened on the light background to a contrast of at least 4.5.
DARK = Palette(
    ground="#11151c",
    ink="#e4e8ee",
    dim="#8b95a5",
    rule="#2b3342",
    good="#33c197",
    bad="#f0762b",
    unsure="#f0c24c",
    accent="#56b4e9",
    cursor="#27364d",
    arms=("#56b4e9", "#e69f00", "#33c197", "#e08fc0", "#f0e442", "#f0762b"),
    layers=("#9db4ff", "#c7a6ff", "#f59cd8", "#ff9e9e", "#ffc38a", "#d9d784", "#9fdc9a", "#86d6d0"),
)
LIGHT = Palette(
    ground="#fbfbf8",
    ink="#1d232c",
    dim="#5c6570",
    rule="#cfd4da",
    good="#00714f",
    bad="#b34700",
    unsure="#7d5a00",
    accent="#0068a3",
    cursor="#d6e6f5",
    arms=("#0072b2", "#b34700", "#00785a", "#a8447f", "#8a6100", "#3d6b8f"),
    layers=("#3a50b0", "#6a3fb5", "#99307f", "#a83248", "#8c4a12", "#66600a", "#2d6b2f", "#0f6a6a"),
)


def arm_marker(index: int) -> str:
    """The marker of the arm with this index in the plan; together with the colour it repeats after 42 arms."""
    return MARKERS[index % len(MARKERS)]


def hollow_marker(index: int) -> str:
    """The marker of this arm where not all seeds are measured yet."""
    return HOLLOW_MARKERS[index % len(HOLLOW_MARKERS)]


def bar(share: float, width: int) -> str:
    """A bar for a share in [0, 1], `width` cells wide, with a resolution of an eighth of a cell."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (EIGHTHS[rest] if rest else "")).ljust(width)


def sparkline(values: list[float], width: int, top: float) -> str:
    """The last `width` values as a sparkline; `top` fills a cell."""
    last = values[-width:] if width > 0 else []
    scale = (len(SPARKS) - 1) / top if top > 0 else 0.0
    return "".join(SPARKS[min(len(SPARKS) - 1, max(0, round(value * scale)))] for value in last).ljust(width)
