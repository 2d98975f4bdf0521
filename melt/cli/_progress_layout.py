"""Rows of a table in a given room: columns are narrowed, then dropped, but no line is ever as wide as the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from melt.cli._progress_state import Device
from melt.cli._progress_text import first_that_fits, in_ascii, shorten

_GAP = 1


@dataclass(frozen=True, slots=True)
class View:
    """How much room there is, in cells and rows, and whether Unicode can be shown."""

    width: int
    height: int
    unicode: bool = True

    def fit(self, line: Text) -> Text:
        """Return a line as it can be shown, narrower than the terminal."""
        line = self.write(line)
        if cell_len(line.plain) < self.width:
            return line
        return Text(set_cell_size(line.plain, max(0, self.width - 1)), line.style)

    def write(self, line: Text) -> Text:
        """Return a line as it can be shown, however wide."""
        return line if self.unicode else Text(in_ascii(line.plain), line.style)


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `texts` are what it may say of a device, the longest first.

    It gets `least` to `most` cells, and is dropped where it is the one with the least `keep`. A `steady` one is not
    made for what it says now: that changes all the time, and the columns beside it must not jump.
    """

    title: str
    texts: Callable[[Device], Sequence[str]]
    least: int
    most: int
    keep: int
    right: bool = False
    steady: bool = False
    cut: Callable[[str, int], str] = shorten


class Grid:
    """Columns that were given their widths, for these devices."""

    def __init__(self, columns: Sequence[Column], devices: Sequence[Device], view: View) -> None:
        self._view = view
        wanted = [self._wanted(column, devices) for column in columns]
        widths = _widths(columns, wanted, view.width - 1)
        self._columns = [(column, width) for column, width in zip(columns, widths, strict=True) if width]

    @property
    def titles(self) -> Text:
        """The row above the others."""
        return _joined([(column.title, column, width) for column, width in self._columns], "bold")

    def row(self, device: Device, style: str) -> Text:
        """Return what the columns say of a device."""
        return _joined([(self._cell(column, device, width), column, width) for column, width in self._columns], style)

    def _cell(self, column: Column, device: Device, width: int) -> str:
        texts = self._texts(column, device)
        return first_that_fits(texts, width) if cell_len(texts[-1]) <= width else column.cut(texts[-1], width)

    def _texts(self, column: Column, device: Device) -> Sequence[str]:
        """Translate before anything is measured: in ASCII a text has another width."""
        texts = column.texts(device)
        return texts if self._view.unicode else [in_ascii(text) for text in texts]

    def _wanted(self, column: Column, devices: Sequence[Device]) -> int:
        if column.steady:
            return column.most
        longest = max((cell_len(self._texts(column, device)[0]) for device in devices), default=0)
        return max(column.least, min(column.most, longest), len(column.title))


def _widths(columns: Sequence[Column], wanted: Sequence[int], room: int) -> list[int]:
    """Give each column what it wants; where that is too much narrow the widest ones, then drop the least important."""
    kept = set(range(len(columns)))
    while True:
        widths = [wanted[i] if i in kept else 0 for i in range(len(columns))]
        too_much = sum(widths) + _GAP * (len(kept) - 1) - room
        while too_much > 0 and (
            spare := {i: widths[i] - columns[i].least for i in kept if widths[i] > columns[i].least}
        ):
            widths[max(spare, key=lambda i: (spare[i], i))] -= 1
            too_much -= 1
        if too_much <= 0 or len(kept) == 1:
            return widths
        kept.remove(min(kept, key=lambda i: columns[i].keep))


def _joined(cells: Sequence[tuple[str, Column, int]], style: str) -> Text:
    parts = []
    for text, column, width in cells:
        text = shorten(text, width)
        pad = " " * (width - cell_len(text))
        parts.append(pad + text if column.right else text + pad)
    return Text((" " * _GAP).join(parts).rstrip(), style)
