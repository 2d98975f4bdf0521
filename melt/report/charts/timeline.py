"""A run over time: token rate, power, temperatures, clocks, memory and throttling on one axis, its phases shaded.

What is shown is between the parameters `t0` and `t1` of the specification, in seconds: whoever embeds it zooms by
setting these two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from melt.analysis import channels
from melt.analysis.downsample import broken, downsample
from melt.analysis.heat import rate_of_curve
from melt.analysis.heat_story import Story, Track, story, track_of
from melt.records import Window
from melt.report.charts.text import plain, shortened
from melt.report.charts.theme import DASHES, Spec
from melt.report.scale import scale_for
from melt.traces import RunBundle

_PANEL_PX, _RATE_PX, _STATE_PX = 78, 110, 40
_AXIS_PX = 52
_ROOM = 0.08
_NARROWEST = 1000
"""Spans closer than this part of the whole are drawn as one: no screen tells them apart."""
_NAME_CHARACTERS = 28
_POINT = {"type": "circle", "clip": True, "opacity": 1, "size": 22}
_S = 1e9
_PHASES = {
    "loading": "preparing",
    "warm-up": "warmup",
    "prefill": "prefill",
    "decode": "decode",
    "inference": "decode",
}
"""What a span is called, and the role of its colour. No workload has both decoding and single-shot inference."""


@dataclass(frozen=True, slots=True)
class _Panel:
    """Lines that share a scale; `zero`: it begins at 0."""

    title: str
    unit: str
    tracks: tuple[Track, ...]
    height_px: int = _PANEL_PX
    zero: bool = True
    steps: bool = False


def timeline_spec(bundle: RunBundle, *, width: int = 720, most_points: int = 1500) -> Spec | None:
    """Draw a run whose traces are loaded, a line with at most `most_points`; None where nothing was recorded.

    `width` is that of the field in pixels. Times count from the first measured token or request.
    """
    told = story(bundle)
    panels = () if told is None else tuple(_panels(bundle, told))
    if told is None or not panels:
        return None
    t0_s, t1_s = ((end - told.zero_ns) / _S for end in told.span)
    throttled = [] if told.throttled_ns is None else [{"t": (told.throttled_ns - told.zero_ns) / _S}]
    datasets = {"phases": _shaded(bundle.windows, told), "throttled": throttled}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "params": [{"name": "t0", "value": round(t0_s, 3)}, {"name": "t1", "value": round(t1_s, 3)}],
        "datasets": datasets,
        "vconcat": [
            _panel(panel, told, datasets, (width, most_points), place == 0, place == len(panels) - 1)
            for place, panel in enumerate(panels)
        ],
        "spacing": 4,
        "resolve": {"scale": {"color": "independent", "strokeDash": "independent"}},
    }


def _panels(bundle: RunBundle, told: Story) -> Iterator[_Panel]:
    """Yield what was measured, from what was wanted to what explains it."""
    if told.curve is not None:
        phase, unit = rate_of_curve(bundle.start.spec.workload)
        track = track_of(phase, told.curve.middle_ns, told.curve.rates)
        yield _Panel(f"{phase} rate", unit, (track,), _RATE_PX)
    if told.power:
        yield _Panel(f"power ({told.power_scope})", "w", told.power)
    if told.temperatures:
        yield _Panel("temperature", "c", told.temperatures, zero=False)
    if told.clocks:
        yield _Panel("clock", "hz", told.clocks)
    memory = tuple(track_of("runner", s.t_ns, s.values) for s in channels.runner_rss(bundle.traces)[:1] if len(s))
    if not memory:
        memory = tuple(_device_memory(bundle))
    if memory:
        yield _Panel("memory", "bytes", memory)
    if told.states:
        yield _Panel("throttling", "1", told.states, _STATE_PX, steps=True)


def _device_memory(bundle: RunBundle) -> Iterator[Track]:
    """Yield how much memory was left, where nothing tells what the runner took."""
    for trace in bundle.traces:
        for stream in trace.streams:
            if stream.quantity == "memory" and not stream.cumulative and np.isfinite(trace.columns[stream.name]).any():
                yield track_of(stream.name.removesuffix("_bytes"), trace.t_ns, trace.columns[stream.name])
                return


def _panel(
    panel: _Panel, told: Story, datasets: Mapping[str, Sequence[Spec]], size: tuple[int, int], first: bool, last: bool
) -> Spec:
    values = np.concatenate([track.values for track in panel.tracks])
    factor, symbol = _scale(values[np.isfinite(values)], panel.unit)
    names = [shortened(plain(track.name), _NAME_CHARACTERS) for track in panel.tracks]
    lines = [
        [{"t": t, "v": v, "s": name} for t, v in _points(track, told.zero_ns, factor, size[1])]
        for track, name in zip(panel.tracks, names, strict=True)
    ]
    rows = [row for line in lines for row in line]
    alone = [row for line in lines for row in _alone(line)]
    several = len(names) > 1
    since = f"seconds since {told.zero}" if last else None
    legend = {"orient": "top", "title": None, "offset": 2, "symbolType": "stroke", "symbolSize": 180, "columns": 3}
    which: Spec = {"field": "s", "type": "nominal", "legend": legend if several else None}
    dashes = {"domain": names, "range": [list(d) for d in DASHES[: len(names)]]}
    line = {"type": "line", "clip": True, "strokeWidth": 1.4, "interpolate": "step-after" if panel.steps else "linear"}
    axis = {"minExtent": _AXIS_PX, "maxExtent": _AXIS_PX, "tickCount": 3, "title": None, "labelLimit": _AXIS_PX - 8}
    places = {
        "x": _time(since),
        "y": {"field": "v", "type": "quantitative", "scale": _values(rows, panel), "axis": axis},
    }
    coloured: Spec = {"field": "s", "type": "nominal", "legend": None, "scale": {"domain": names}}
    return {
        "width": size[0],
        "height": panel.height_px,
        "title": {
            "text": _heading(panel, symbol, names),
            "fontSize": 11,
            "fontWeight": "normal",
            "offset": 4,
            "frame": "group",
        },
        "layer": [
            *([_phases(datasets["phases"], first, since)] if datasets["phases"] else []),
            *([_throttled(since)] if datasets["throttled"] else []),
            *(
                [{"data": {"values": alone}, "mark": _POINT, "encoding": {**places, "color": coloured}}]
                if alone
                else []
            ),
            {
                "data": {"values": rows},
                "mark": line,
                "encoding": {
                    **places,
                    "color": {**coloured, **which},
                    **({"strokeDash": {**which, "scale": dashes}} if several else {}),
                },
            },
        ],
        "resolve": {"scale": {"color": "independent", "strokeDash": "independent"}},
    }


def _heading(panel: _Panel, symbol: str, names: Sequence[str]) -> str:
    """Name a panel; where it has one line and so no legend, that line too."""
    title = f"{plain(panel.title)}, {symbol}" if symbol else plain(panel.title)
    return title if len(names) > 1 or names[0] in title else f"{title} ({names[0]})"


def _values(rows: Sequence[Spec], panel: _Panel) -> Spec:
    """Return a scale with some room above and below the lines, which would else be cut in half at the edge."""
    known = [row["v"] for row in rows if row["v"] is not None] or [0.0]
    low, high = 0.0 if panel.zero else min(known), max(known)
    room = _ROOM * (high - low) or 1.0
    return {"domain": [low if panel.zero else low - room, high + room], "nice": False, "zero": panel.zero}


def _time(since: str | None, field: str = "t") -> Spec:
    scale = {"domainMin": {"expr": "t0"}, "domainMax": {"expr": "t1"}, "nice": False, "zero": False}
    labelled = since is not None
    axis: Spec = {"tickCount": 8, "title": since, "labels": labelled, "ticks": labelled}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}


def _throttled(since: str | None) -> Spec:
    return {
        "data": {"name": "throttled"},
        "mark": {"type": "rule", "clip": True, "strokeDash": [3, 3], "color": {"expr": "failed"}},
        "encoding": {"x": _time(since)},
    }


def _phases(spans: Sequence[Spec], legend: bool, since: str | None) -> Spec:
    present = [name for name in _PHASES if any(span["phase"] == name for span in spans)]
    scale = {"domain": present, "range": [{"expr": _PHASES[name]} for name in present]}
    shown = {"orient": "top", "title": None, "offset": 2, "symbolType": "square", "symbolOpacity": 0.5, "columns": 4}
    return {
        "data": {"name": "phases"},
        "mark": {"type": "rect", "clip": True, "opacity": 0.17, "tooltip": None},
        "encoding": {
            "x": _time(since, "a"),
            "x2": {"field": "b"},
            "color": {"field": "phase", "type": "nominal", "scale": scale, "legend": shown if legend else None},
        },
    }


def _shaded(windows: Sequence[Window], told: Story) -> list[Spec]:
    """Return the spans of phases in seconds, those that lie close together as one."""
    least_ns = (told.span[1] - told.span[0]) / _NARROWEST
    spans: dict[str, list[list[int]]] = {}
    for window in sorted(windows, key=lambda w: w.t0_ns):
        name = _phase(window)
        if name is None or window.t1_ns <= window.t0_ns:
            continue
        known = spans.setdefault(name, [])
        if known and window.t0_ns - known[-1][1] < least_ns:
            known[-1][1] = max(known[-1][1], window.t1_ns)
        else:
            known.append([window.t0_ns, window.t1_ns])
    return [
        {"phase": name, "a": round((a - told.zero_ns) / _S, 4), "b": round((b - told.zero_ns) / _S, 4)}
        for name, found in spans.items()
        for a, b in found
    ]


def _phase(window: Window) -> str | None:
    if window.phase == "load":
        return "loading"
    if window.phase not in ("prefill", "decode", "inference"):
        return None
    return "warm-up" if window.warmup else window.phase


def _points(track: Track, zero_ns: int, factor: float, most_points: int) -> Iterator[tuple[float, float | None]]:
    """Yield seconds and values, None where nothing was measured: a line is broken there."""
    t_ns, values = downsample(*broken(track.t_ns, track.values, track.gap_ns), most_points)
    for t, v in zip(((t_ns - zero_ns) / _S).round(3).tolist(), (values / factor).tolist(), strict=True):
        yield t, None if v != v else float(f"{v:.5g}")


def _alone(line: Sequence[Spec]) -> Iterator[Spec]:
    """Yield the points of a line that have no neighbour: a line draws nothing there."""
    known = [False, *(row["v"] is not None for row in line), False]
    for place, row in enumerate(line, 1):
        if known[place] and not known[place - 1] and not known[place + 1]:
            yield row


def _scale(values: np.ndarray, unit: str) -> tuple[float, str]:
    """Return how large one of the unit shown is, and its symbol."""
    if unit == "hz":
        return (1e9, "GHz") if len(values) and values.max() >= 1e9 else (1e6, "MHz")
    scale = scale_for(values.tolist(), unit)
    return scale.factor, scale.symbol
