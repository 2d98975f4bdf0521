"""Words in a picture: printable, as wide as there is room, escaped where they stand inside HTML."""

from __future__ import annotations

import json
import textwrap
import unicodedata
from typing import Any

from melt.report.charts.theme import TEXT_PX

_WIDTH_EM = 0.56
_WIDE_EM = 1.0


def plain(text: str) -> str:
    """Replace what steers a terminal or the direction of text, and what UTF-8 cannot hold.

    Names come from devices and files.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def width_px(text: str, size_px: float = TEXT_PX) -> float:
    """Return about how wide a text is: no font is asked, since every place has its own."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return size_px * (_WIDE_EM * wide + _WIDTH_EM * (len(text) - wide))


def shortened(text: str, most: int) -> str:
    """Return at most so many characters, the middle left out: names differ at their ends."""
    text = plain(text)
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def lines(text: str, room_px: float, size_px: float = TEXT_PX) -> list[str]:
    """Break a text into lines that fit."""
    return textwrap.wrap(plain(text), max(12, int(room_px / (size_px * _WIDTH_EM))))


def script_json(value: Any) -> str:
    """Write JSON that may stand inside a `<script>` element: nothing in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
