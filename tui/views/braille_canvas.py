"""A canvas of braille dots with characters on top."""

from __future__ import annotations

from rich.text import Text

# Braille dots of a cell by column and row (Unicode 15, block 2800).
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_MAX_DOTS = 4000  # maximum number of dots per line segment
_DASH = 3  # dots of a dash, and of the gap after it


class BrailleCanvas:
    """A grid of cells. Positions are in [0, 1] x [0, 1], from the bottom left; all of them are rounded to dots once."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = max(1, width), max(1, height)
        self._dots: dict[tuple[int, int], tuple[int, str]] = {}
        self._signs: dict[tuple[int, int], tuple[str, str]] = {}

    def row(self, y: float) -> int:
        """The row of cells, from the top, of a position along y."""
        return self._cell(0.0, y)[1]

    def column(self, x: float) -> int:
        """The column of cells of a position along x."""
        return self._cell(x, 0.0)[0]

    def segment(self, a: tuple[float, float], b: tuple[float, float], colour: str, dashed: bool = False) -> None:
        """Draw a line."""
        ax, ay = self._dot(*a)
        bx, by = self._dot(*b)
        steps = min(_MAX_DOTS, max(abs(bx - ax), abs(by - ay), 1))
        for n in range(steps + 1):
            if dashed and n // _DASH % 2:
                continue
            x, y = ax + round((bx - ax) * n / steps), ay + round((by - ay) * n / steps)
            cell = (x // 2, y // 4)
            bits, _ = self._dots.get(cell, (0, ""))
            self._dots[cell] = (bits | _DOTS[x % 2][y % 4], colour)

    def whisker(self, x: float, low: float, high: float, colour: str) -> None:
        """Draw an interval along y."""
        column, top, bottom = self.column(x), self.row(high), self.row(low)
        for row in range(top, bottom + 1):
            if top != bottom:
                sign = "┬" if row == top else "┴" if row == bottom else "│"
                if self._signs.get((column, row), ("╌",))[0] == "╌":
                    self._signs[column, row] = (sign, colour)

    def sign(self, x: float, y: float, sign: str, colour: str) -> None:
        """Put a character on top of everything else."""
        self._signs[self._cell(x, y)] = (sign, colour)

    def dashes(self, y: float, colour: str) -> None:
        """Draw a horizontal line behind everything else."""
        row = self.row(y)
        for column in range(self.width):
            self._signs[column, row] = ("╌", colour)

    def line(self, row: int) -> Text:
        """A row of cells as text."""
        line = Text(no_wrap=True, end="")
        for column in range(self.width):
            sign = self._signs.get((column, row))
            bits, colour = self._dots.get((column, row), (0, ""))
            if bits and (sign is None or sign[0] in "╌│"):
                line.append(chr(0x2800 + bits), colour or None)
            elif sign:
                line.append(sign[0], sign[1] or None)
            else:
                line.append(" ")
        return line

    def _dot(self, x: float, y: float) -> tuple[int, int]:
        width, height = 2 * self.width - 1, 4 * self.height - 1
        return _nearest(_clamp(x) * width), _nearest((1 - _clamp(y)) * height)

    def _cell(self, x: float, y: float) -> tuple[int, int]:
        column, row = self._dot(x, y)
        return column // 2, row // 4


def _clamp(value: float) -> float:
    return min(1.0, max(0.0, value))


def _nearest(dots: float) -> int:
    """The nearest dot; values that are equal but for the rounding of floating point get the same one."""
    return round(round(dots, 6))
