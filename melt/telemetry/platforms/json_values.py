"""Values out of programs that print a JSON object a line, whatever a line holds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

Reader = Callable[[Mapping[str, Any]], float]
"""A line's object -> a value in our unit, NaN where it is not there. Never raises on odd content."""


def json_object(raw: bytes | str | None) -> Mapping[str, Any]:
    """Return the object that a line holds, an empty one where it holds none."""
    try:
        found = json.loads(raw or b"")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def number(value: object) -> float:
    """Return a JSON number that is finite, else NaN. A truth value is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


def at(*path: str | int, per_unit: float = 1.0) -> Reader:
    """Make a reader of the number behind keys and list indexes; `per_unit` of it make one of our unit."""

    def read(found: Mapping[str, Any]) -> float:
        value: Any = found
        for step in path:
            if isinstance(step, str) and isinstance(value, dict):
                value = value.get(step)
            elif isinstance(step, int) and isinstance(value, list) and step < len(value):
                value = value[step]
            else:
                return math.nan
        return number(value) / per_unit

    return read


def first(*readers: Reader) -> Reader:
    """Make a reader that asks several, and takes the first value there is: versions name things differently."""

    def read(found: Mapping[str, Any]) -> float:
        return next((value for value in (one(found) for one in readers) if not math.isnan(value)), math.nan)

    return read
