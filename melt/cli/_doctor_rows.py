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
_NUMBERED = re.compile(r"(^cpu|^policy|_)\d+(?=_|$)")
_RUNNER, _PRESSURE = "runner", "/proc/pressure/"
_HOMES = ("/sys/class/", "/sys/devices/system/")


class Reading(NamedTuple):
    """A column and what it says now; None: nothing, or only while a runner runs.

    `word` is what a column said whose number only stands for a name.
    """

    stream: Stream
    value: float | None
    word: str | None = None


def channel_rows(readings: Iterable[Reading]) -> list[list[str]]:
    """Return a row per collector, quantity and kind of source; one of all that is known of the runner."""
    groups: dict[tuple[str, ...], list[Reading]] = {}
    for reading in readings:
        groups.setdefault(_kind(reading.stream), []).append(reading)
    return [
        [_title(kind, members), _now(members), f"{members[0].stream.rate_hz:g} Hz", kind[-1]]
        for kind, members in groups.items()
    ]


def _title(kind: tuple[str, ...], members: Sequence[Reading]) -> str:
    if kind[0] == _RUNNER:
        return f"the runner: CPU, memory, faults … ({len(members)})"
    return _names([m.stream.name for m in members])


def _kind(stream: Stream) -> tuple[str, ...]:
    """Return what the columns of a row have in common, their source last."""
    if stream.site == _RUNNER:
        return (_RUNNER, "/proc/{pid}/…" if stream.source.startswith("/proc/") else stream.source)
    source = _source(stream.source)
    if source.startswith(_PRESSURE):
        return (stream.collector, f"{_PRESSURE}*")
    # States say something each: those of one kind share a row, others do not.
    state = _NUMBERED.sub(r"\1*", stream.name) if stream.quantity == "state" else ""
    return (stream.collector, stream.quantity, str(stream.cumulative), state, source)


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
    if stream.site == _RUNNER:
        return "during a run"
    words = list(dict.fromkeys(m.word for m in members if m.word is not None))
    if words:
        return ", ".join(words)
    values = [m.value for m in members if m.value is not None]
    if not values:
        return "-"
    if stream.cumulative:
        return "counts"
    if stream.quantity == "state":
        return " .. ".join(dict.fromkeys(f"{value:g}" for value in (min(values), max(values))))
    low, high = human(min(values), stream.unit), human(max(values), stream.unit)
    return low if low == high else f"{low} .. {high}"
