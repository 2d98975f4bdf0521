"""A sweep as lines of text for a terminal of a given size: a pure function of what is known.

While it runs, every line is narrower than the terminal and there are fewer of them than it has rows, so that nothing
wraps or scrolls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from melt.cli._progress_columns import SUMMARY, live_columns, style_of
from melt.cli._progress_layout import Grid, View
from melt.cli._progress_state import Device, Stage, SweepState
from melt.cli._progress_text import clock, shorten, wrap
from melt.records import Verdict
from melt.units import counted

_NOTES_KEPT = 3
"""Lines that notes get although devices must be folded for them."""
_NOTES_MOST = 8
_KINDS = ("active", "ended early", "waiting", "done")
"""What a device may be, the most interesting first."""
_NAMED = 2
"""So many devices are named in a note, more are counted."""


def live(state: SweepState, view: View) -> list[Text]:
    """Return what is shown while a sweep runs: how far it is, a row a device, the newest notes."""
    room = max(1, view.height - 1)
    lines = [_header(state)]
    if state.host is not None:
        lines.append(Text(f"this computer: {state.host.words[0]}"))
    devices = list(state.devices.values())
    notes = _said(state)[-_NOTES_MOST:]
    shown, folded = _fold(devices, max(1, room - len(lines) - 1 - min(_NOTES_KEPT, len(notes))))
    if devices:
        lines += _rows(Grid(live_columns(state), devices, view), shown)
    if folded:
        lines.append(Text(_folded(folded), "dim"))
    lines += _newest(notes, view.width - 1, room - len(lines))
    return [view.fit(line) for line in lines[:room]]


def summary(state: SweepState, view: View) -> list[Text]:
    """Return what stays on the screen after the end: every note, whole, then what each device did."""
    notes = [view.write(Text(line)) for note in _said(state) for line in wrap(note, view.width - 1)]
    lines = [_header(state, ended=True)]
    devices = [device for device in state.devices.values() if device.total or device.first_s is not None]
    if devices:
        lines += _rows(Grid(SUMMARY, devices, view), devices)
    return [*notes, *(view.fit(line) for line in lines)]


def _rows(grid: Grid, devices: Sequence[Device]) -> list[Text]:
    return [grid.titles, *(grid.row(device, style_of(device)) for device in devices)]


def _header(state: SweepState, *, ended: bool = False) -> Text:
    devices = state.devices.values()
    ends = sum((device.ends for device in devices), Counter[str]())
    done, total = sum(d.done for d in devices), sum(d.total for d in devices)
    parts = [f"{done}/{total} runs" if total else "preparing"]
    parts += [f"{count} {end}" for end, count in sorted(ends.items()) if end != Verdict.VALID]
    parts.append(clock(state.elapsed_s))
    left = None if ended else state.sweep_left()
    parts += [left] if left else []
    early = sum(device.ended_early for device in devices)
    parts += [f"{counted(early, 'device')} ended early"] if early and len(devices) > 1 else []
    parts += state.models if len(state.models) == 1 else []
    trouble = early or any(device.failed for device in devices)
    return Text(" | ".join(parts), "bold red" if trouble else "bold")


def _fold(devices: Sequence[Device], rows: int) -> tuple[list[Device], list[Device]]:
    """Split devices into those that are shown, the active ones first, and the rest, for which a row is needed too."""
    if len(devices) <= rows:
        return list(devices), []
    ordered = sorted(devices, key=lambda device: _KINDS.index(_kind(device)))
    return ordered[: rows - 1], ordered[rows - 1 :]


def _folded(devices: Sequence[Device]) -> str:
    counts = Counter(map(_kind, devices))
    if len(counts) == 1:
        return f"+ {len(devices)} more {next(iter(counts))}"
    return f"+ {len(devices)} more: " + ", ".join(f"{counts[kind]} {kind}" for kind in _KINDS if counts[kind])


def _kind(device: Device) -> str:
    if device.stage is Stage.DONE:
        return "ended early" if device.ended_early else "done"
    return "active" if device.stage is Stage.ACTIVE else "waiting"


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
