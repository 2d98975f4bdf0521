"""Lines drawn with characters: Braille dots, eight to a cell, or plain marks where nothing else can be shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from melt.traces import Values

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of a Braille character by column and row (Unicode, block U+2800)."""
_BRAILLE = 0x2800
_COLUMNS, _ROWS = 2, 4
MARKS = "*o+x"
"""Marks of the lines of a panel, where dots cannot be told apart by colour."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A character and which line it belongs to; None: none."""

    text: str
    line: int | None = None


class Canvas:
    """A field of `width` by `height` cells for values from `low` to `high`. Each line covers the whole width.

    `dots`: Braille; else marks. What is drawn later lies above.
    """

    def __init__(self, width: int, height: int, low: float, high: float, *, dots: bool) -> None:
        self.per_cell = _COLUMNS if dots else 1
        self._height, self._dots = height, dots
        self._low, self._range = low, (high - low) or 1.0
        self._bits = np.zeros((height, width), np.int64)
        self._owner = np.full((height, width), -1, np.int64)

    def draw(self, line: int, values: Values) -> None:
        """Draw a line: one value for each column of dots (`per_cell` in a cell), NaN where there is none."""
        rows = self._height * (_ROWS if self._dots else 1)
        share = np.clip((values - self._low) / self._range, 0.0, 1.0)
        last: int | None = None
        for column, value in enumerate(share):
            if np.isnan(value):
                last = None
                continue
            row = round((1.0 - float(value)) * (rows - 1))
            for between in _path(last, row):
                self._set(line, column, between)
            last = row

    def _set(self, line: int, column: int, row: int) -> None:
        x, y = column // self.per_cell, row // (_ROWS if self._dots else 1)
        if self._owner[y, x] != line and self._dots and self._owner[y, x] >= 0:
            self._bits[y, x] = 0
        self._owner[y, x] = line
        self._bits[y, x] |= _DOTS[column % _COLUMNS][row % _ROWS]

    def rows(self) -> Iterator[list[Cell]]:
        """Yield the cells of each row, the highest first."""
        for bits, owners in zip(self._bits, self._owner, strict=True):
            yield [
                Cell(" ") if owner < 0 else Cell(chr(_BRAILLE + int(dots)) if self._dots else MARKS[owner], int(owner))
                for dots, owner in zip(bits, owners, strict=True)
            ]


def _path(last: int | None, row: int) -> range:
    """Return the rows from the one before to this one, so that a steep line has no holes."""
    if last is None or last == row:
        return range(row, row + 1)
    return range(last + 1, row + 1) if row > last else range(row, last)
