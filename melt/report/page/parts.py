"""What the parts of a page are made of: figures that can be sorted, and data packed so that a large page is small."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from typing import Any

from melt.report.charts.theme import Spec


@dataclass(frozen=True, slots=True)
class Figure:
    """A number as it is written, the value by which it sorts (None comes last), and what stands small beside it."""

    text: str
    sort: float | None = None
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart, and its name for those who do not see it."""

    name: str
    spec: Spec


NOT_MEASURED = Figure("-")


def pack(value: Any) -> str:
    """Return JSON, deflated and in base64: no character of it means anything to HTML. Raises ValueError for NaN."""
    return pack_text(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def pack_text(text: str) -> str:
    """Return a text, deflated and in base64. Half a surrogate pair, which no file may hold, becomes a question mark."""
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), 9)).decode("ascii")
