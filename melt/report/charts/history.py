"""A metric night after night: medians with their spread, where the level changed, and what else changed meanwhile."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

from melt.analysis.ab import Change
from melt.analysis.alike import FIELDS
from melt.analysis.changepoints import ChangePoint
from melt.analysis.history import Night, Series
from melt.analysis.names import METRICS
from melt.records import Verdict
from melt.report.charts.axes import Axis, Better, Scale, fitted
from melt.report.charts.text import lines, plain, shortened
from melt.report.charts.theme import TITLE_PX, Spec
from melt.report.scale import percent
from melt.units import human

_KINDS = {
    "valid": ("front", "circle"),
    "suspect": ("refused", "triangle-up"),
    "no believed figure": ("failed", "cross"),
}
"""What a night's figure is worth -> the role of its colour, and its shape. All but valid ones are hollow."""

_BETTER: Mapping[int, Better] = MappingProxyType({1: "higher", -1: "lower"})
_MOST_MARKS = 40
_FEW_NIGHTS, _MANY_NIGHTS = 6, 90
_AREA, _SMALL_AREA = 55, 18
_LABEL_CHARACTERS = 26
_ROWS = 3
"""Labels of changes that follow each other stand on so many lines, or they would cover each other."""
_ROW_PX = 13
_NS_PER_MS = 1_000_000
_NS_PER_DAY = 86_400 * 10**9
_FLUSH_PX = 24
"""Labels so near to an end of the axis begin or end there, or they would stand out of the picture."""
_SOME_DAYS, _MANY_DAYS = 8, 400
"""With eight ticks, from when on ticks are a day apart or more, and when they would not tell years apart."""


def history_spec(
    series: Series, metric: str, changes: Sequence[ChangePoint] = (), *, width: int = 720, height: int = 200
) -> Spec | None:
    """Draw a metric of a series over its nights; None where no night has it.

    `changes` are those of the series, of this metric or of others, which are passed over. `width` and `height`, in
    pixels, are those of the field between the axes.
    """
    points = series.points(metric)
    if not points or metric not in METRICS:
        return None
    known = METRICS[metric]
    axis = Axis(title=known.title, unit=known.unit, better=_BETTER.get(known.better))
    scale = fitted(axis, [value for _, s in points for value in (s.median, s.low, s.high)])
    rows = [_row(series, index, metric, scale) for index in range(len(series.nights))]
    present = [kind for kind in _KINDS if any(row["kind"] == kind for row in rows)]
    rules = _rules(series, [change for change in changes if change.metric == metric])
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": {
            "text": lines(f"{known.title}: {series.label}", width, TITLE_PX),
            "subtitle": lines("one mark a night: median over sessions; bar: their spread", width),
        },
        "width": width,
        "height": height,
        "data": {"values": rows},
        "encoding": {
            "x": {
                "field": "t",
                "type": "temporal",
                "scale": {"type": "utc", "padding": 10},
                "axis": _time_axis(series.nights),
            },
            "y": {"field": "y", "type": "quantitative", "scale": scale.scale_spec(), "axis": _value_axis(scale)},
        },
        "layer": [*_rule_layers(rules), *_point_layers(present, len(rows))],
    }


def _time_axis(nights: Sequence[Night]) -> Spec:
    axis: Spec = {"title": "night (UTC)", "tickCount": 8, "grid": False, "labelFlush": _FLUSH_PX}
    if len(nights) > _FEW_NIGHTS:
        days = (nights[-1].began_utc_ns - nights[0].began_utc_ns) / _NS_PER_DAY
        # Between the two, Vega's own labels tell days and hours apart.
        dates = "%b %Y" if days > _MANY_DAYS else "%b %d" if days > _SOME_DAYS else None
        return axis if dates is None else {**axis, "format": dates}
    # Ticks at round times tell little of a few nights: over one night they are milliseconds. An expression, for plain
    # numbers become `datetime(ms)` in Vega-Lite, which Vega's interpreter takes for a year.
    times = [night.began_utc_ns // _NS_PER_MS for night in nights]
    return {**axis, "values": {"expr": json.dumps(times)}, "format": "%b %d, %H:%M"}


def _value_axis(scale: Scale) -> Spec:
    spec = scale.axis_spec()
    return {**spec, "tickCount": 5} if scale.kind == "linear" else spec


def _row(series: Series, index: int, metric: str, scale: Scale) -> Spec:
    night = series.nights[index]
    summary = night.summary(metric)
    kind = "no believed figure" if summary is None else "valid" if night.verdict is Verdict.VALID else "suspect"
    tip = {"title": f"sweep {plain(night.sweep_id)}", "Began": _when(night), "Figures": kind}
    # A night without figures is marked at the foot of the field: it was, and it told nothing.
    row: Spec = {"t": night.began_utc_ns // _NS_PER_MS, "y": scale.low, "kind": kind, "tip": tip}
    if summary is not None:
        unit = scale.axis.unit
        tip["Median"] = human(summary.median, unit)
        tip[summary.spread_kind] = f"{human(summary.low, unit)} to {human(summary.high, unit)}"
        tip["Sessions"] = str(summary.n)
        row |= {"y": scale.shown(summary.median), "low": scale.shown(summary.low), "high": scale.shown(summary.high)}
    return row


def _when(night: Night) -> str:
    return datetime.fromtimestamp(night.began_utc_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _rules(series: Series, changes: Sequence[ChangePoint]) -> list[Spec]:
    """Return what is drawn across the field: changes of level, and of what was found on the device."""
    found = [(change.night, _change_words(change), _role(change), _change_tip(change)) for change in changes]
    marks = series.marks[-_MOST_MARKS:]
    for mark in marks:
        name = FIELDS.get(mark.field, mark.field)
        tip = {"title": name, "Before": shortened(mark.before, 80), "After": shortened(mark.after, 80)}
        found.append((mark.night, name, "muted", tip))
    rules = []
    for place, (night, words, role, tip) in enumerate(sorted(found, key=lambda one: one[0])):
        t_ms = series.nights[night].began_utc_ns // _NS_PER_MS
        if night:
            # Between two nights: the change came after the one and before the other.
            t_ms = (t_ms + series.nights[night - 1].began_utc_ns // _NS_PER_MS) // 2
        row_px = -5 - _ROW_PX * (place % _ROWS)
        rules.append({"t": t_ms, "words": shortened(words, _LABEL_CHARACTERS), "role": role, "tip": tip, "dy": row_px})
    return rules


def _change_words(change: ChangePoint) -> str:
    sign = "✓ " if change.acknowledged is not None else "▼ " if change.change is Change.REGRESSED else "▲ "
    return f"{sign}{percent(change.ratio - 1)}"


def _role(change: ChangePoint) -> str:
    if change.acknowledged is not None or change.change is not Change.REGRESSED:
        return "dominated" if change.acknowledged is not None else "recommended"
    return "failed"


def _change_tip(change: ChangePoint) -> dict[str, str]:
    unit = METRICS[change.metric].unit
    tip = {
        "title": f"{change.change} {change.change_id}",
        "Before": human(change.before, unit),
        "After": human(change.after, unit),
    }
    return tip if change.acknowledged is None else {**tip, "Acknowledged": shortened(change.acknowledged, 120)}


def _rule_layers(rules: Sequence[Spec]) -> list[Spec]:
    if not rules:
        return []
    roles = sorted({rule["role"] for rule in rules})
    layers: list[Spec] = []
    for role in roles:
        values = [rule for rule in rules if rule["role"] == role]
        dash = [2, 3] if role == "muted" else [1, 0]
        base: Spec = {"data": {"values": values}}
        text = {"type": "text", "align": "left", "baseline": "bottom", "dx": -2, "dy": {"expr": "datum.dy"}}
        layers += [
            {
                **base,
                "mark": {
                    "type": "rule",
                    "color": {"expr": role},
                    "strokeDash": dash,
                    "strokeWidth": 1.4,
                    "tooltip": {"expr": "datum.tip"},
                },
                "encoding": {"y": {"value": {"expr": "0"}}, "y2": {"value": {"expr": "height"}}},
            },
            {
                **base,
                "mark": {**text, "color": {"expr": role}, "tooltip": {"expr": "datum.tip"}},
                "encoding": {"y": {"value": 0}, "text": {"field": "words", "type": "nominal"}},
            },
        ]
    return layers


def _point_layers(present: Sequence[str], n: int) -> list[Spec]:
    kinds = list(present)
    legend = {"title": None, "orient": "bottom", "symbolSize": 80} if kinds != ["valid"] else None
    colour = {"domain": kinds, "range": [{"expr": _KINDS[kind][0]} for kind in kinds]}
    fills = {"domain": kinds, "range": [{"expr": "front" if kind == "valid" else "paper"} for kind in kinds]}
    shapes = {"domain": kinds, "range": [_KINDS[kind][1] for kind in kinds]}
    measured = {"filter": "isValid(datum.low)"}
    bare: Spec = {"tooltip": None, "aria": False}
    return [
        {
            "transform": [measured],
            "mark": {"type": "line", "color": {"expr": "front"}, "opacity": 0.5, "strokeWidth": 1.2, **bare},
        },
        {
            "transform": [measured],
            "mark": {"type": "rule", "color": {"expr": "muted"}, "opacity": 0.8, **bare},
            "encoding": {"y": {"field": "low"}, "y2": {"field": "high"}},
        },
        {
            "mark": {
                "type": "point",
                "size": _AREA if n <= _MANY_NIGHTS else _SMALL_AREA,
                "opacity": 1,
                "tooltip": {"expr": "datum.tip"},
            },
            "encoding": {
                "fill": {"field": "kind", "type": "nominal", "scale": fills, "legend": legend},
                "stroke": {"field": "kind", "type": "nominal", "scale": colour, "legend": legend},
                "shape": {"field": "kind", "type": "nominal", "scale": shapes, "legend": legend},
            },
        },
    ]
