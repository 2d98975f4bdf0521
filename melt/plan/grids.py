"""The intensity of an electricity grid as people give it: grams of CO2 equivalents per kWh, or a country's code."""

from __future__ import annotations

import re
from collections.abc import Callable

from melt.errors import UsageError
from melt.plan import values
from melt.records import Grid

LoadGrid = Callable[[str], Grid]
"""Country's code -> its grid, out of a table. Raises UsageError."""

_MOST_G_PER_KWH = 3000.0
"""Power stations on lignite come to half of it."""
_CODE = re.compile(r"[A-Za-z]{3}")


def read_grid(text: str, load_grid: LoadGrid | None = None) -> Grid:
    """Read `380` or `DEU`; codes are looked up with `load_grid`. Raises UsageError."""
    if load_grid is not None and _CODE.fullmatch(text):
        return load_grid(text.upper())
    try:
        return Grid(g_per_kwh=values.number(0, _MOST_G_PER_KWH)(text))
    except UsageError as error:
        raise UsageError(
            f"expected grams of CO2e per kWh, from 0 to {_MOST_G_PER_KWH:g}, or a country's code of three letters such "
            f"as DEU, found {values.shown(text)}"
        ) from error
