"""The dark and light themes of the monitor, built from the palettes of the views."""

from __future__ import annotations

from textual.theme import Theme

from .views.glyphs import DARK, LIGHT, Palette

PALETTES = {"tickdsl-dark": DARK, "tickdsl-light": LIGHT}


def themes() -> list[Theme]:
    """A Textual theme for each palette."""
    return [_theme(name, palette, dark=palette is DARK) for name, palette in PALETTES.items()]


def _theme(name: str, palette: Palette, dark: bool) -> Theme:
    return Theme(
        name=name,
        primary=palette.accent,
        secondary=palette.dim,
        accent=palette.accent,
        foreground=palette.ink,
        background=palette.ground,
        surface=palette.ground,
        panel=palette.rule,
        success=palette.good,
        warning=palette.unsure,
        error=palette.bad,
        dark=dark,
        variables={
            "rule": palette.rule,
            "ink": palette.ink,
            "dim": palette.dim,
            "cursor-line": palette.cursor,
            "scrollbar": palette.rule,
            "scrollbar-hover": palette.dim,
            "scrollbar-active": palette.accent,
            "scrollbar-background": palette.ground,
            "scrollbar-background-hover": palette.ground,
            "scrollbar-background-active": palette.ground,
            "scrollbar-corner-color": palette.ground,
        },
    )


def palette_of(theme: str) -> Palette:
    """The palette of a theme; the dark one for unknown themes."""
    return PALETTES.get(theme, DARK)
