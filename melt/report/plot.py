"""A run drawn in the terminal: panels one above the other on one time axis. No more than text comes out."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from melt.analysis.heat import rate_of_curve
from melt.analysis.heat_curve import KEPT_RATIO, Curve
from melt.analysis.heat_story import Story, Track, story, track_of
from melt.analysis.names import METRICS
from melt.report.canvas import MARKS, Canvas, Cell
from melt.report.words import joined
from melt.traces import RunBundle, Values
from melt.units import human

_GUTTER = 9
_LEAST_WIDTH, _MOST_WIDTH = 40, 160
_UNLIMITED = 100_000
_COLOURS = ("cyan", "yellow", "green", "magenta")
_FIGURES = (
    "burst_tps",
    "steady_tps",
    "steady_ratio",
    "time_to_throttle_s",
    "temperature_start_c",
    "temperature_max_c",
    "recovery_s",
)
_TICKS = 5
_IN_ASCII = str.maketrans({"°": "", "µ": "u"})


@dataclass(frozen=True, slots=True)
class Style:
    """What the place can show where the plot goes: columns, colours, and characters beyond ASCII."""

    width: int
    colour: bool = False
    unicode: bool = True


@dataclass(frozen=True, slots=True)
class _Panel:
    """Lines that share a scale. `floor` is the lowest value shown; None: that of the lines."""

    title: str
    unit: str
    tracks: tuple[Track, ...]
    height: int
    floor: float | None = 0.0
    steps: bool = False


@dataclass(frozen=True, slots=True)
class _Axis:
    """The common time axis: from, to, zero in ns, over `cells` columns of text."""

    t0_ns: int
    t1_ns: int
    zero_ns: int
    cells: int

    def column(self, t_ns: int) -> int:
        """Return the cell in which a moment lies, within the field."""
        share = (t_ns - self.t0_ns) / max(1, self.t1_ns - self.t0_ns)
        return min(self.cells - 1, max(0, int(share * self.cells)))


def render_plot(bundle: RunBundle, style: Style) -> str:
    """Draw a run whose traces are loaded; the text ends a line. Where nothing was recorded, a sentence says so."""
    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, force_terminal=style.colour, width=_UNLIMITED, highlight=False, markup=False)
    for line in _lines(bundle, style):
        text = Text()
        for index, cells in groupby(line, key=lambda cell: cell.line):
            colour = _COLOURS[index] if style.colour and index is not None else None
            text.append(_printable("".join(cell.text for cell in cells)), colour)
        text.rstrip()
        console.print(text, soft_wrap=True)
    return out.getvalue() if style.unicode else out.getvalue().translate(_IN_ASCII).encode("ascii", "replace").decode()


def _lines(bundle: RunBundle, style: Style) -> Iterator[list[Cell]]:
    start, stop = bundle.start, bundle.stop
    title = f"Run {start.spec.run_id}: {start.spec.label} on {start.device.name}, {stop.outcome}, {stop.verdict}"
    yield from _wrapped(title, style)
    told = story(bundle)
    if told is None:
        yield from _wrapped("Nothing was recorded of this run that could be drawn.", style)
        return
    values = {m.name: m for m in bundle.metrics if m.repetition is None and m.value is not None}
    figures = (f"{METRICS[n].title} {human(values[n].value, values[n].unit)}" for n in _FIGURES if n in values)
    yield from _wrapped(joined(figures), style)
    for reason in stop.reasons:
        yield from _wrapped(f"{reason.code}: {reason.message}", style)
    width = min(_MOST_WIDTH, max(_LEAST_WIDTH, style.width))
    axis = _Axis(*told.span, told.zero_ns, width - _GUTTER - 1)
    panels, absent = _panels(told, *rate_of_curve(bundle.start.spec.workload))
    for panel in panels:
        yield []
        yield from _draw(panel, axis, told.throttled_ns, style)
    yield from _time(axis, style)
    yield from _strips(told, axis, style)
    for sentence in absent:
        yield from _wrapped(sentence, style)


def _panels(told: Story, phase: str, unit: str) -> tuple[list[_Panel], list[str]]:
    """Return what can be drawn, and a sentence for each that cannot."""
    wanted = (
        (
            _Panel(f"{phase}, {unit}", unit, _rate(told.curve, phase), 8),
            f"No {phase} was timed: there is no curve of its rate.",
        ),
        (
            _Panel("temperature, °C", "c", told.temperatures, 6, floor=None),
            "No temperature was measured on this device.",
        ),
        (_Panel("clock, GHz", "ghz", told.clocks, 5), "No clock was measured on this device."),
        (_Panel(f"power, W ({told.power_scope})", "w", told.power, 5), "No power was measured on this device."),
        (
            _Panel("throttling as reported", "1", told.states, 3, steps=True),
            "The device has no report of throttling.",
        ),
    )
    return [panel for panel, _ in wanted if panel.tracks], [text for panel, text in wanted if not panel.tracks]


def _rate(curve: Curve | None, name: str) -> tuple[Track, ...]:
    return () if curve is None else (track_of(name, curve.middle_ns, curve.rates),)


def _draw(panel: _Panel, axis: _Axis, throttled_ns: int | None, style: Style) -> Iterator[list[Cell]]:
    dots = style.unicode and (style.colour or len(panel.tracks) == 1)
    yield _heading(panel, axis, style, dots=dots)
    per_cell = 2 if dots else 1
    lines = [_resampled(track, axis, axis.cells * per_cell, steps=panel.steps) for track in panel.tracks]
    low, high = _limits(panel, lines)
    canvas = Canvas(axis.cells, panel.height, low, high, dots=dots)
    # The first is the one that matters: it lies above the others.
    for index in reversed(range(len(lines))):
        canvas.draw(index, lines[index])
    throttle = None if throttled_ns is None else axis.column(throttled_ns)
    bar, mark = ("│", "┊") if style.unicode else ("|", ":")
    for row, cells in enumerate(canvas.rows()):
        at = high - (high - low) * row / max(1, panel.height - 1)
        labelled = row in (0, panel.height - 1) or (panel.height > 4 and row == (panel.height - 1) // 2)
        shown = [Cell(mark) if column == throttle and cell.line is None else cell for column, cell in enumerate(cells)]
        yield [Cell(f"{_number(at, panel.unit) if labelled else '':>{_GUTTER - 1}} {bar}"), *shown]


def _heading(panel: _Panel, axis: _Axis, style: Style, *, dots: bool) -> list[Cell]:
    title = panel.title
    cells = [Cell(title)]
    if len(panel.tracks) == 1:
        name = f"   {panel.tracks[0].name}"
        return cells if name.strip() in title or len(title + name) > axis.cells else [*cells, Cell(name)]
    room = axis.cells + _GUTTER - len(title)
    for index, track in enumerate(panel.tracks):
        text = f"   {'━' if dots else MARKS[index]} {track.name}"
        room -= len(text)
        if room < 0:
            break
        cells.append(Cell(text, index))
    return cells


def _limits(panel: _Panel, lines: Sequence[Values]) -> tuple[float, float]:
    known = np.concatenate([line[np.isfinite(line)] for line in lines])
    if not len(known):
        return 0.0, 1.0
    low = float(known.min()) if panel.floor is None else panel.floor
    high = float(known.max())
    return (low, high) if high > low else (low, low + 1.0)


def _resampled(track: Track, axis: _Axis, columns: int, *, steps: bool) -> Values:
    """Return a value for each column: the mean (of steps the highest) of its samples, between samples the line.

    NaN outside of the samples and in holes.
    """
    known = np.isfinite(track.values)
    t_ns, values = track.t_ns[known], track.values[known]
    if not len(t_ns):
        return np.full(columns, np.nan)
    edges = np.linspace(0, axis.t1_ns - axis.t0_ns, columns + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    relative = (t_ns - axis.t0_ns).astype(np.float64)
    found = np.interp(middles, relative, values, left=np.nan, right=np.nan)
    found[~_covered(middles, relative, track.gap_ns)] = np.nan
    where = np.clip(np.searchsorted(edges, relative, "right") - 1, 0, columns - 1)
    if steps:
        found = _held(middles, relative, values)
        np.fmax.at(found, where, values)
        return found
    counts = np.bincount(where, minlength=columns)
    sums = np.bincount(where, weights=values, minlength=columns)
    return np.where(counts > 0, sums / np.maximum(counts, 1), found)


def _held(middles: Values, times: Values, values: Values) -> Values:
    """Return what was said last, NaN before anything was."""
    last = np.searchsorted(times, middles, "right") - 1
    return np.where((last >= 0) & (middles <= times[-1]), values[np.maximum(last, 0)], np.nan)


def _covered(middles: Values, times: Values, gap_ns: int) -> np.ndarray:
    """Whether each moment lies between two samples that are near each other."""
    gaps = np.diff(times)
    if not len(gaps):
        return np.zeros(len(middles), bool)
    after = np.clip(np.searchsorted(times, middles), 1, len(times) - 1)
    return np.asarray(gaps[after - 1] <= gap_ns)


def _time(axis: _Axis, style: Style) -> Iterator[list[Cell]]:
    corner, dash, tick = ("└", "─", "┴") if style.unicode else ("+", "-", "+")
    rule, labels = [dash] * axis.cells, [" "] * (axis.cells + _GUTTER)
    for t_s in _ticks(axis):
        column = axis.column(axis.zero_ns + round(t_s * 1e9))
        rule[column] = tick
        text = f"{t_s:g} s" if t_s == 0 else f"{t_s:g}"
        at = _GUTTER + column - len(text) // 2
        if at >= 0 and at + len(text) <= len(labels) and all(c == " " for c in labels[at - 1 : at + len(text) + 1]):
            labels[at : at + len(text)] = text
    yield _words(" " * _GUTTER + corner + "".join(rule))
    yield _words(" " + "".join(labels))


def _ticks(axis: _Axis) -> list[float]:
    """Return round times, so many that they stand apart."""
    first_s, last_s = (axis.t0_ns - axis.zero_ns) / 1e9, (axis.t1_ns - axis.zero_ns) / 1e9
    rough_s = max(1e-3, (last_s - first_s) / max(2, min(_TICKS, axis.cells // 12)))
    decade = 10 ** np.floor(np.log10(rough_s))
    step_s = float(next(m * decade for m in (1, 2, 5, 10) if m * decade >= rough_s))
    return [i * step_s for i in range(int(np.ceil(first_s / step_s)), int(np.floor(last_s / step_s)) + 1)]


def _strips(told: Story, axis: _Axis, style: Style) -> Iterator[list[Cell]]:
    """Write below the axis what the runner did, and where it throttled."""
    rest = "·" if style.unicode else "."
    strip = [rest] * axis.cells
    for name, (t0_ns, t1_ns) in told.phases:
        first, last = axis.column(t0_ns), axis.column(t1_ns)
        strip[first : last + 1] = [name[0]] * (last + 1 - first)
    names = ", ".join(f"{name[0]} {name}" for name, _ in told.phases)
    yield _words(f"{'phases':>{_GUTTER - 1}}  {''.join(strip)}")
    lead = " " * (_GUTTER + 1)
    yield from _wrapped(joined((names, f"{rest} rest")), style, lead)
    if told.throttled_ns is not None:
        mark, after_s = "┊" if style.unicode else ":", (told.throttled_ns - told.zero_ns) / 1e9
        yield from _wrapped(
            f"{mark} throttled from {after_s:.3g} s on: below {100 * KEPT_RATIO:.0f} % of the burst", style, lead
        )


def _number(value: float, unit: str) -> str:
    text = _decimals(value, unit)
    return text if len(text) < _GUTTER else f"{value:.2g}"


def _decimals(value: float, unit: str) -> str:
    if unit == "c":
        return f"{value:.1f}"
    if unit == "ghz":
        return f"{value / 1e9:.2f}"
    value = 0.0 if abs(value) < 1e-9 else value
    digits = 0 if abs(value) >= 100 or unit == "1" else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


def _printable(text: str) -> str:
    """Replace what would steer a terminal: sensors are called what a device's firmware calls them."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _words(text: str) -> list[Cell]:
    return [Cell(text)]


def _wrapped(text: str, style: Style, lead: str = "") -> Iterator[list[Cell]]:
    width = max(_LEAST_WIDTH, style.width)
    yield from map(_words, textwrap.wrap(text, width, initial_indent=lead, subsequent_indent=lead))
