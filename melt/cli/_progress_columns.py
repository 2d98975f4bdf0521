"""What the columns of a sweep's tables say of a device: of one at work, and of one that is done."""

from __future__ import annotations

from rich.cells import cell_len

from melt.cli._progress_layout import Column
from melt.cli._progress_state import Device, Stage, SweepState, cell_of, rate_unit
from melt.cli._progress_text import clean, duration, shorten, shorten_middle
from melt.records import RunSpec, Verdict

_VERDICTS = frozenset(Verdict)


def live_columns(state: SweepState) -> list[Column]:
    """Return the columns while a sweep runs; what no device has is not among them."""
    devices = state.devices.values()
    several = len(state.models) > 1
    cell = max((cell_len(_cell_texts(*cell, several=several)[0]) for cell in state.cells), default=0)
    count = max((len(f"{d.total}/{d.total}") for d in devices), default=0)
    columns = [
        Column("device", _names, 12, 30, 9, cut=shorten_middle),
        Column("cell", lambda d: _cell(d, several=several), 10, max(4, cell), 6, steady=True),
        Column("phase", lambda d: d.phase.words, 16, 50, 9, steady=True),
        Column("done", lambda d: (f"{d.done}/{d.total}" if d.total else "",), 4, max(4, count), 9, right=True),
        _rates(state),
    ]
    if any(d.temperature_c is not None for d in devices):
        columns.append(Column("temp", lambda d: (_degrees(d.temperature_c),), 6, 6, 5, right=True, steady=True))
    if any(d.battery_ratio is not None or d.power_mode for d in devices):
        title = "power" if any(d.power_mode for d in devices) else "battery"
        columns.append(Column(title, lambda d: (_power(d),), 7, 10, 4, right=True))
    columns.append(Column("left", lambda d: (_left(state, d),), 6, 6, 7, right=True, steady=True))
    return columns


SUMMARY = (
    Column("device", lambda d: _names(d), 12, 30, 9, cut=shorten_middle),
    Column("runs", lambda d: (f"{d.done}/{d.total}",), 5, 11, 9, right=True),
    Column("valid", lambda d: (f"{d.ends[Verdict.VALID]}",), 5, 5, 8, right=True),
    Column("suspect", lambda d: (f"{d.ends[Verdict.SUSPECT]}",), 7, 7, 7, right=True),
    Column("invalid", lambda d: (f"{d.ends[Verdict.INVALID]}",), 7, 7, 6, right=True),
    Column("failed", lambda d: (f"{d.failed}",), 6, 6, 8, right=True),
    Column("took", lambda d: ("" if d.took_s is None else duration(d.took_s),), 6, 6, 5, right=True),
    Column("how it ended", lambda d: _how_it_ended(d), 12, 60, 9),
)
"""The columns after the end of a sweep."""


def style_of(device: Device) -> str:
    """Choose a colour; what it says stands in words in the row, too."""
    if device.failed:
        return "red"
    if device.stage is Stage.DONE:
        # Not yellow, which cannot be read on a light ground.
        return "magenta" if device.ended_early else "green"
    return "dim" if device.stage is Stage.WAITING else ""


def _names(device: Device) -> tuple[str, ...]:
    short = clean(device.selector).removeprefix("adb:").removeprefix("ssh:")
    return (f"{short} ({device.name})", short) if device.name and device.name != short else (short,)


def _cell(device: Device, *, several: bool) -> tuple[str, ...]:
    spec = device.running
    return ("",) if spec is None else _cell_texts(*cell_of(spec), several=several)


def _cell_texts(model: str, rest: str, *, several: bool) -> tuple[str, ...]:
    """Say which cell it is; of the model a part is enough, and nothing where all runs have the same."""
    if not several:
        return (rest,)
    return (f"{model} {rest}", *(f"{shorten(model, n)} {rest}" for n in range(cell_len(model) - 1, 3, -1)), rest)


def _rates(state: SweepState) -> Column:
    """Return the column of rates: their unit heads it, or where cells count in several it stands behind each."""
    if len(state.rate_units) > 1:
        return Column("rate", lambda d: (_rate(d.rate, d.running),), 12, 12, 8, right=True, steady=True)
    title = next(iter(state.rate_units), "tok/s")
    return Column(title, lambda d: (_rate(d.rate),), 6, 6, 8, right=True, steady=True)


def _rate(rate: float | None, running: RunSpec | None = None) -> str:
    if rate is None:
        return ""
    unit = "" if running is None else f" {rate_unit(running)}"
    return f"{rate:.1f}{unit}" if rate < 1000 else f"{rate:.0f}{unit}"


def _degrees(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} °C"


def _power(device: Device) -> str:
    return device.power_mode if device.battery_ratio is None else f"{device.battery_ratio * 100:.0f} %"


def _left(state: SweepState, device: Device) -> str:
    left_s = None if device.stage is Stage.DONE else state.left_s(device)
    return "" if left_s is None else duration(left_s)


def _how_it_ended(device: Device) -> tuple[str, ...]:
    others = [f"{count} {end}" for end, count in device.ends.items() if end not in _VERDICTS]
    ways = device.phase.words
    if device.stage is not Stage.DONE:
        at = (f"stopped at: {device.phase.words[0]}", f"stopped at: {device.phase.kind}")
        ways = ("not begun",) if device.stage is Stage.WAITING else at
    return tuple(", ".join([way, *others]) for way in ways)
