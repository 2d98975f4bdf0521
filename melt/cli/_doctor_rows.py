"""The channels of a device as a table that fits a screen: what comes from files of one kind shares a row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from melt.records import Stream

HEADERS = ("channels", "now", "rate", "source")
_NAMES_CELLS = 34
_SOURCE_CELLS = 30
_NUMBERED = re.compile(r"(^cpu|_)\d+(?=_|$)")
_HOMES = ("/sys/class/", "/sys/devices/system/")


class Reading(NamedTuple):
    """A column and what it says now; None: nothing, or only while a runner runs."""

    stream: Stream
    value: float | None


def channel_rows(readings: Iterable[Reading]) -> list[list[str]]:
    """Return a row per collector, quantity and kind of source."""
    groups: dict[tuple[str, str, bool, str, str], list[Reading]] = {}
    for reading in readings:
        stream = reading.stream
        source = _source(stream.source)
        # States say something each: those of one kind share a row, others do not.
        kind = _NUMBERED.sub(r"\1*", stream.name) if stream.quantity == "state" else ""
        groups.setdefault((stream.collector, stream.quantity, stream.cumulative, source, kind), []).append(reading)
    return [
        [_names([m.stream.name for m in members]), _now(members), f"{members[0].stream.rate_hz:g} Hz", source]
        for (_, _, _, source, _), members in groups.items()
    ]


def _source(source: str) -> str:
    """Leave out of a path its numbers, its home, and its middle where it is long."""
    if source.startswith("/"):
        source = re.sub(r"(?<=[a-z_])\d+", "*", source)
        source = next((source.removeprefix(home) for home in _HOMES if source.startswith(home)), source)
    tail = _SOURCE_CELLS // 2
    return source if len(source) <= _SOURCE_CELLS else f"{source[: _SOURCE_CELLS - tail - 1]}…{source[-tail:]}"


def _names(names: Sequence[str]) -> str:
    """Write one name, one pattern, or as many names as there is room for."""
    patterns = list(dict.fromkeys(_NUMBERED.sub(r"\1*", name) for name in names))
    count = "" if len(names) == 1 else f" ({len(names)})"
    if len(names) == 1 or len(patterns) == 1:
        return (names if len(names) == 1 else patterns)[0][:_NAMES_CELLS] + count
    endings = {name[name.rfind("_") :] for name in names}
    unit = endings.pop() if len(endings) == 1 else ""
    shown: list[str] = []
    for name in patterns:
        if len(", ".join([*shown, name.removesuffix(unit)])) > _NAMES_CELLS - 2 and shown:
            return f"{', '.join(shown)} …{count}"
        shown.append(name.removesuffix(unit)[: _NAMES_CELLS - 2])
    return ", ".join(shown) + count


def _now(members: Sequence[Reading]) -> str:
    from melt.units import human

    stream = members[0].stream
    if "{pid}" in stream.source:
        return "during a run"
    values = [m.value for m in members if m.value is not None]
    if not values:
        return "-"
    if stream.cumulative:
        return "counts"
    if stream.quantity == "state":
        return " .. ".join(dict.fromkeys(f"{value:g}" for value in (min(values), max(values))))
    low, high = human(min(values), stream.unit), human(max(values), stream.unit)
    return low if low == high else f"{low} .. {high}"
