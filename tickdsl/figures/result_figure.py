"""The matplotlib figure of a result, and the settings that it is drawn and saved with."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any, cast

import matplotlib
from matplotlib.figure import Figure

from tickdsl.figures.options import FigureOptions
from tickdsl.figures.text_fitting import SMALL


class ResultFigure(Figure):
    """A figure that is saved as it was drawn, whatever the user's matplotlibrc says."""

    settings: dict[str, Any]

    def savefig(self, fname: Any, **options: Any) -> None:
        """Save the figure: fonts are embedded in a PDF, and equal figures have equal bytes."""
        with drawing_settings(self.settings):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        """The figure in a notebook."""
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=144)
        return content.getvalue()


def settings_for(options: FigureOptions) -> dict[str, Any]:
    """Matplotlib's settings for a figure."""
    theme, font = options.theme, options.font
    return {
        "font.family": list(theme.families),
        "font.size": font,
        "axes.labelsize": font,
        "axes.titlesize": font,
        "xtick.labelsize": font * SMALL,
        "ytick.labelsize": font * SMALL,
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "xtick.color": theme.soft,
        "xtick.labelcolor": theme.ink,
        "ytick.color": theme.soft,
        "ytick.labelcolor": theme.ink,
        "axes.edgecolor": theme.soft,
        "axes.facecolor": theme.paper,
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "savefig.bbox": None,
        "axes.linewidth": 0.08 * font,
        "xtick.major.width": 0.08 * font,
        "ytick.major.width": 0.08 * font,
        "xtick.major.size": 0.35 * font,
        "ytick.major.size": 0.35 * font,
        "xtick.major.pad": 0.3 * font,
        "ytick.major.pad": 0.3 * font,
        "xtick.minor.visible": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "lines.linewidth": 0.15 * font * theme.stroke,
        "text.parse_math": False,  # an arm may be called a$b
        "text.usetex": False,
        "axes.unicode_minus": True,
        "pdf.fonttype": 42,  # TrueType, as publishers ask for
        "ps.fonttype": 42,
        "svg.fonttype": "none",
        "svg.hashsalt": "tickdsl",
        "path.simplify": False,
    }


@contextlib.contextmanager
def drawing_settings(settings: dict[str, Any]) -> Iterator[None]:
    """Matplotlib with its own defaults and `settings`, and without warnings of characters that no font has."""
    kept = {"backend", "backend_fallback", "interactive", "toolbar", "timezone", "webagg.address", "webagg.port"}
    defaults: dict[Any, Any] = {name: value for name, value in matplotlib.rcParamsDefault.items() if name not in kept}
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", category=matplotlib.MatplotlibDeprecationWarning)
        matplotlib.rcParams.update(defaults)
        matplotlib.rcParams.update(cast(Any, settings))
        yield
