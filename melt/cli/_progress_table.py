"""A sweep as lines of text for a terminal of a given size: a pure function of what is known.

Every line is narrower than the terminal and there are fewer of them than it has rows, so that nothing wraps or scrolls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from melt.cli._progress_state import Device, Stage, SweepState, cell_of
from melt.cli._progress_text import (
    clean,
    clock,
    duration,
    first_that_fits,
    in_ascii,
    shorten,
    shorten_middle,
    wrap,
)
from melt.records import Verdict

_GAP = 1
_NOTES_KEPT = 3
"""Lines that notes get although devices must be folded for them."""
_NOTES_MOST = 8
_NAMED = 2
"""So many devices are named in a note, more are counted."""
_VERDICTS = frozenset(Verdict)
_CHANGING = frozenset({"cell", "phase", "done", "tok/s", "temp", "left"})
"""Columns of a fixed width: what they say changes all the time, and the others must not jump."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column: `texts` are what it may say of a device, the longest first. It is dropped where `keep` is least."""

    title: str
    texts: Callable[[Device], Sequence[str]]
    least: int
    most: int
    keep: int
    right: bool = False
    cut: Callable[[str, int], str] = shorten


@dataclass(frozen=True, slots=True)
class View:
    """How much room there is, in cells and rows, and whether Unicode can be shown."""

    width: int
    height: int
    unicode: bool = True


def live(state: SweepState, view: View) -> list[Text]:
    """Return what is shown while a sweep runs: how far it is, a row a device, the newest notes."""
    room = max(1, view.height - 1)
    lines = [_header(state)]
    if state.host is not None:
        lines.append(Text(f"this computer: {state.host.words[0]}"))
    devices = list(state.devices.values())
    notes = _said(state)[-_NOTES_MOST:]
    for_rows = max(1, room - len(lines) - 1 - min(_NOTES_KEPT, len(notes)))
    shown, folded = _fold(devices, for_rows)
    if devices:
        columns = _shown_columns(_columns(state), view)
        widths = _widths(columns, devices, view.width - 1)
        lines.append(_row([c.title for c in columns], columns, widths, "bold"))
        lines += [_device_row(device, columns, widths) for device in shown]
    if folded:
        lines.append(Text(_folded(folded), "dim"))
    lines += _newest(notes, view.width - 1, room - len(lines))
    return [_final_line(line, view) for line in lines[:room]]


def summary(state: SweepState, view: View) -> list[Text]:
    """Return what stays on the screen after the end: every note, then what each device did."""
    lines = [Text(note) for note in _said(state)]
    lines.append(_header(state, ended=True))
    columns = _shown_columns(_SUMMARY, view)
    devices = [device for device in state.devices.values() if device.total or device.first_s is not None]
    if devices:
        widths = _widths(columns, devices, view.width - 1)
        lines.append(_row([c.title for c in columns], columns, widths, "bold"))
        lines += [_row(_cells(device, columns, widths), columns, widths, _style(device)) for device in devices]
    return [_shown(line, view) if n < len(state.notes) else _final_line(line, view) for n, line in enumerate(lines)]


def _header(state: SweepState, *, ended: bool = False) -> Text:
    devices = state.devices.values()
    ends = sum((device.ends for device in devices), Counter[str]())
    done, total = sum(d.done for d in devices), sum(d.total for d in devices)
    parts = [f"{done}/{total} runs" if total else "preparing"]
    parts += [f"{count} {end}" for end, count in sorted(ends.items()) if end != Verdict.VALID]
    parts.append(clock(state.elapsed_s))
    left_s = None if ended else state.sweep_left_s()
    parts += [f"about {duration(left_s)} left"] if left_s else []
    parts += state.models if len(state.models) == 1 else []
    return Text(" | ".join(parts), "bold red" if any(device.failed for device in devices) else "bold")


def _columns(state: SweepState) -> list[_Column]:
    """Choose the columns: what no device has is not shown."""
    devices = state.devices.values()
    several = len(state.models) > 1
    cell = max((cell_len(_cell_texts(*cell, several=several)[0]) for cell in state.cells), default=0)
    counts = max((len(f"{d.total}/{d.total}") for d in devices), default=0)
    found = [
        _Column("device", _names, 8, 30, 9, cut=shorten_middle),
        _Column("cell", lambda d: _cell_of(d, several=several), 10, max(4, cell), 6),
        _Column("phase", lambda d: d.phase.words, 14, 34, 9),
        _Column(
            "done", lambda d: (f"{d.done}/{d.total}" if d.total else "",), max(4, counts), max(4, counts), 9, right=True
        ),
        _Column("tok/s", lambda d: (_rate(d.rate_tps),), 6, 6, 8, right=True),
        _Column("left", lambda d: (_left(state, d),), 6, 6, 7, right=True),
    ]
    if any(d.temperature_c is not None for d in devices):
        found.insert(-1, _Column("temp", lambda d: (_value(d.temperature_c, "°C"),), 6, 6, 5, right=True))
    if any(d.battery_ratio is not None or d.power_mode for d in devices):
        title = "power" if any(d.power_mode for d in devices) else "battery"
        found.insert(-1, _Column(title, _power, 7, 10, 4, right=True))
    return found


_SUMMARY = (
    _Column("device", lambda d: _names(d), 8, 30, 9, cut=shorten_middle),
    _Column("runs", lambda d: (f"{d.done}/{d.total}",), 5, 11, 9, right=True),
    _Column("valid", lambda d: (f"{d.ends[Verdict.VALID]}",), 5, 5, 8, right=True),
    _Column("suspect", lambda d: (f"{d.ends[Verdict.SUSPECT]}",), 7, 7, 7, right=True),
    _Column("invalid", lambda d: (f"{d.ends[Verdict.INVALID]}",), 7, 7, 6, right=True),
    _Column("failed", lambda d: (f"{d.failed}",), 6, 6, 8, right=True),
    _Column("took", lambda d: (_took(d),), 6, 6, 5, right=True),
    _Column("how it ended", lambda d: _how_it_ended(d), 12, 60, 9),
)


def _took(device: Device) -> str:
    known = device.first_s is not None and device.last_s is not None
    return duration(device.last_s - device.first_s) if known else ""  # type: ignore[operator]


def _how_it_ended(device: Device) -> tuple[str, ...]:
    others = [f"{count} {end}" for end, count in device.ends.items() if end not in _VERDICTS]
    ways = device.phase.words
    if device.stage is not Stage.DONE:
        at = (f"stopped at: {device.phase.words[0]}", f"stopped at: {device.phase.kind}")
        ways = ("not begun",) if device.stage is Stage.WAITING else at
    return tuple(", ".join([way, *others]) for way in ways)


def _names(device: Device) -> tuple[str, ...]:
    short = clean(device.selector).removeprefix("adb:").removeprefix("ssh:")
    return (f"{short} ({device.name})", short) if device.name and device.name != short else (short,)


def _cell_of(device: Device, *, several: bool) -> tuple[str, ...]:
    spec = device.running
    return ("",) if spec is None else _cell_texts(*cell_of(spec), several=several)


def _cell_texts(model: str, rest: str, *, several: bool) -> tuple[str, ...]:
    """Say which cell it is; of the model a part is enough, and nothing where all runs have the same."""
    if not several:
        return (rest,)
    return (f"{model} {rest}", *(f"{shorten(model, n)} {rest}" for n in range(cell_len(model) - 1, 3, -1)), rest)


def _rate(tps: float | None) -> str:
    if tps is None:
        return ""
    return f"{tps:.1f}" if tps < 1000 else f"{tps:.0f}"


def _left(state: SweepState, device: Device) -> str:
    left_s = None if device.stage is Stage.DONE else state.left_s(device)
    return "" if left_s is None else duration(left_s)


def _value(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.0f} {unit}"


def _power(device: Device) -> tuple[str, ...]:
    if device.battery_ratio is None:
        return (device.power_mode,)
    return (f"{device.battery_ratio * 100:.0f} %",)


def _fold(devices: Sequence[Device], rows: int) -> tuple[list[Device], list[Device]]:
    """Split devices into those that are shown, the active ones first, and the rest, for which a row is needed too."""
    if len(devices) <= rows:
        return list(devices), []
    ordered = sorted(devices, key=lambda device: device.stage)
    return ordered[: rows - 1], ordered[rows - 1 :]


def _folded(devices: Sequence[Device]) -> str:
    names = {Stage.ACTIVE: "active", Stage.WAITING: "waiting", Stage.DONE: "done"}
    counts = Counter(names[device.stage] for device in devices)
    if len(counts) == 1:
        return f"+ {len(devices)} more {next(iter(counts))}"
    return f"+ {len(devices)} more: " + ", ".join(f"{counts[name]} {name}" for name in names.values() if counts[name])


def _widths(columns: Sequence[_Column], devices: Sequence[Device], room: int) -> list[int]:
    """Give each column what it wants; where that is too much narrow the widest ones, then drop the least important."""
    wanted = []
    for column in columns:
        if column.title in _CHANGING:
            wanted.append(column.most)
        else:
            longest = max((cell_len(column.texts(device)[0]) for device in devices), default=0)
            wanted.append(max(column.least, min(column.most, longest), len(column.title)))
    kept = set(range(len(columns)))
    while True:
        widths = [wanted[i] if i in kept else 0 for i in range(len(columns))]
        while sum(widths) + _GAP * (len(kept) - 1) > room:
            spare = {i: widths[i] - columns[i].least for i in kept if widths[i] > columns[i].least}
            if not spare:
                break
            widths[max(spare, key=lambda i: (spare[i], i))] -= 1
        if sum(widths) + _GAP * (len(kept) - 1) <= room or len(kept) == 1:
            return widths
        kept.remove(min(kept, key=lambda i: columns[i].keep))


def _cells(device: Device, columns: Sequence[_Column], widths: Sequence[int]) -> list[str]:
    cells = []
    for column, width in zip(columns, widths, strict=True):
        texts = column.texts(device)
        fitting = first_that_fits(texts, width)
        cells.append(fitting if cell_len(texts[-1]) <= width else column.cut(texts[-1], width))
    return cells


def _device_row(device: Device, columns: Sequence[_Column], widths: Sequence[int]) -> Text:
    return _row(_cells(device, columns, widths), columns, widths, _style(device))


def _style(device: Device) -> str:
    """Choose a colour; what it says stands in words in the row, too."""
    if device.failed:
        return "red"
    return {Stage.ACTIVE: "", Stage.WAITING: "dim", Stage.DONE: "green" if device.done >= device.total else "yellow"}[
        device.stage
    ]


def _row(cells: Sequence[str], columns: Sequence[_Column], widths: Sequence[int], style: str) -> Text:
    parts = []
    for text, column, width in zip(cells, columns, widths, strict=True):
        if width:
            text = shorten(text, width)
            pad = " " * (width - cell_len(text))
            parts.append(pad + text if column.right else text + pad)
    return Text((" " * _GAP).join(parts).rstrip(), style)


def _said(state: SweepState) -> list[str]:
    """Return every note with the devices it was said of, oldest first."""
    several = len(state.devices) > 1
    return [_note(text, devices, several=several) for text, devices in state.notes.items()]


def _note(text: str, devices: Sequence[str], *, several: bool) -> str:
    named = [device for device in devices if device and device not in text]
    if not named or not several:
        return f"note: {text}"
    return f"note: {', '.join(named) if len(named) <= _NAMED else f'{len(named)} devices'}: {text}"


def _newest(notes: Sequence[str], width: int, rows: int) -> list[Text]:
    """Return the newest notes: whole where there is room for all of them, else a line each."""
    whole = [line for note in notes for line in wrap(note, width)]
    lines = whole if len(whole) <= rows else [shorten(note, width) for note in notes]
    return [Text(line) for line in lines[-rows:]] if rows > 0 else []


def _shown_columns(columns: Sequence[_Column], view: View) -> list[_Column]:
    """Translate what columns say before it is laid out: in ASCII it has another width."""

    def translated(texts: Callable[[Device], Sequence[str]]) -> Callable[[Device], Sequence[str]]:
        return lambda device: [in_ascii(text) for text in texts(device)]

    return list(columns) if view.unicode else [replace(c, texts=translated(c.texts)) for c in columns]


def _shown(line: Text, view: View) -> Text:
    return line if view.unicode else Text(in_ascii(line.plain), line.style)


def _final_line(line: Text, view: View) -> Text:
    """Make sure of what was promised: ASCII where asked for, and no line as wide as the terminal."""
    line = _shown(line, view)
    fits = cell_len(line.plain) < view.width
    return line if fits else Text(set_cell_size(line.plain, max(0, view.width - 1)), line.style)
