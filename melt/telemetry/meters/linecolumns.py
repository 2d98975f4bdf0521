"""Lines of numbers made into samples: `columns` says what stands where and in which unit. Pure; used by two meters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from melt.telemetry.meters.base import AMPS, JOULES, VOLTS, WATTS
from melt.telemetry.meters.options import Options
from melt.traces import Times, Values

TIME, PASSED_OVER = "time", "-"
_UNITS = {
    "time_s": (TIME, 1e9),
    "time_ms": (TIME, 1e6),
    "time_us": (TIME, 1e3),
    "time_ns": (TIME, 1.0),
    "v": (VOLTS, 1.0),
    "mv": (VOLTS, 1e-3),
    "a": (AMPS, 1.0),
    "ma": (AMPS, 1e-3),
    "ua": (AMPS, 1e-6),
    "w": (WATTS, 1.0),
    "mw": (WATTS, 1e-3),
    "uw": (WATTS, 1e-6),
    "j": (JOULES, 1.0),
    "mj": (JOULES, 1e-3),
    "uj": (JOULES, 1e-6),
}
_LATEST_NS = float(2**62)


@dataclass(frozen=True, slots=True)
class LineFormat:
    """How a line is read. `places` has for each field a column and what one of its units is in SI (of time: in ns)."""

    places: tuple[tuple[str, float] | None, ...]
    separator: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        """Return what a line measures, in its order, without its time."""
        return tuple(place[0] for place in self.places if place is not None and place[0] != TIME)

    @property
    def has_time(self) -> bool:
        """Whether a line says when it was measured, on the meter's clock."""
        return any(place is not None and place[0] == TIME for place in self.places)

    def read(self, line: str) -> tuple[int | None, tuple[float, ...]] | None:
        """Return a line's time in ns, None where it has none, and its values; None where it is not such a line.

        A value that is no finite number is NaN: not measured.
        """
        fields = line.strip().split(self.separator)
        if len(fields) != len(self.places):
            return None
        t_ns: int | None = None
        values: list[float] = []
        for field, place in zip(fields, self.places, strict=True):
            if place is None:
                continue
            try:
                number = float(field)
            except ValueError:
                return None
            if place[0] == TIME:
                if not abs(number * place[1]) < _LATEST_NS:
                    return None
                # Whole nanoseconds have more digits than a float keeps.
                t_ns = (
                    int(field) if place[1] == 1.0 and field.strip().lstrip("+-").isdigit() else round(number * place[1])
                )
            else:
                values.append(number * place[1] if math.isfinite(number) else math.nan)
        return t_ns, tuple(values)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What lines gave: shapes (n,) and (n, columns); `unread` lines were none of the format."""

    t_ns: Times
    values: Values
    unread: int


def unit_names() -> frozenset[str]:
    """Return every name that a column may have."""
    return frozenset(_UNITS)


def line_format(options: Options) -> LineFormat:
    """Return the format that `columns` and `separator` declare. Raises UsageError."""
    words = options.words("columns")
    for word in words:
        if word != PASSED_OVER and word not in _UNITS:
            known = ", ".join(_UNITS)
            raise options.wrong(f"columns: {word!r} is not known: {known}, or {PASSED_OVER} for what is passed over")
    places = tuple(None if word == PASSED_OVER else _UNITS[word] for word in words)
    named = [place[0] for place in places if place is not None]
    if len({*named}) != len(named):
        raise options.wrong("columns: the same is measured twice: pass over one of them with -")
    if not ({WATTS, JOULES} & {*named} or {VOLTS, AMPS} <= {*named}):
        raise options.wrong("columns: no power: name w, or v and a, or j")
    separator = options.text("separator", ",")
    return LineFormat(places, None if separator == "space" else separator)


def parse_lines(lines: Sequence[str], form: LineFormat, arrived_ns: int) -> Parsed:
    """Read lines; one without a time was measured when it arrived."""
    times: list[int] = []
    rows: list[tuple[float, ...]] = []
    unread = 0
    for line in lines:
        found = form.read(line)
        if found is None:
            unread += bool(line.strip())
            continue
        times.append(arrived_ns if found[0] is None else found[0])
        rows.append(found[1])
    values = np.array(rows, np.float64).reshape(len(rows), len(form.columns))
    return Parsed(np.array(times, np.int64), values, unread)
