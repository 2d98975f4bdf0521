"""The Pareto picture: levels in two of their figures, with intervals, file sizes, and the front that they make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from melt.report.charts.axes import Axis, Better, Scale, fitted
from melt.report.charts.labels import Box, Mark, Pixel, Place, placed
from melt.report.charts.text import lines, plain, shortened, width_px
from melt.report.charts.theme import TITLE_PX, Spec
from melt.report.scale import scale_for
from melt.units import human

__all__ = ["Axis", "Better", "ParetoPoint", "State", "pareto_spec"]

State = Literal["recommended", "front", "dominated", "refused", "failed"]

_STAR = "M0,-1L.22,-.31L.95,-.31L.36,.12L.59,.81L0,.38L-.59,.81L-.36,.12L-.95,-.31L-.22,-.31Z"
_MARKS: Mapping[State, tuple[str, str]] = {
    "recommended": ("recommended", _STAR),
    "front": ("not dominated", "circle"),
    "dominated": ("dominated", "square"),
    "refused": ("does not meet a limit for certain", "triangle-down"),
    "failed": ("failed", "cross"),
}
"""State -> what the legend calls it, and its shape. In the order of rank: the first gets the best label."""

_MOST_AREA, _PLAIN_AREA = 420.0, 90.0
_RING_PX = 14.0
"""How far the ring about the recommended level reaches."""

_LABEL_CHARACTERS = 22
_DETAIL_CHARACTERS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoPoint:
    """One level. `x`, `y` and their intervals (low, high) in stored units, None where not known.

    A point without x or y is named below the title. `size_bytes` is the area of its mark; `details` are further rows of
    its tooltip, written for people.
    """

    label: str
    x: float | None
    y: float | None
    state: State
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    size_bytes: float | None = None
    details: Mapping[str, str] = field(default_factory=dict)


def pareto_spec(
    points: Sequence[ParetoPoint],
    x: Axis,
    y: Axis,
    *,
    title: str,
    subtitle: str = "",
    width: int = 640,
    height: int = 400,
) -> Spec:
    """Draw levels in two figures. `width` and `height`, in pixels, are those of the field between the axes.

    The line joins the levels of state `front` or `recommended` that no other of them beats in both figures.
    """
    drawn = sorted((p for p in points if _is_known(p.x) and _is_known(p.y)), key=lambda p: list(_MARKS).index(p.state))
    absent = [p for p in points if not (_is_known(p.x) and _is_known(p.y))]
    if absent:
        names = ", ".join(f"{shortened(p.label, _LABEL_CHARACTERS)} ({_why_absent(p, x, y)})" for p in absent)
        subtitle = f"{subtitle}\nNot drawn: {names}" if subtitle else f"Not drawn: {names}"
    if not drawn:
        return _nothing(_title(title, subtitle, width), width)
    scales = (_scale(x, drawn, "x"), _scale(y, drawn, "y"))
    front = _front(drawn, x, y)
    places = _places(drawn, front, scales, (width, height))
    rows = [_row(p, place, x, y, scales) for p, place in zip(drawn, places, strict=True)]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": _title(title, subtitle, width),
        "width": width,
        "height": height,
        "data": {"values": rows},
        "encoding": {axis: _position(axis, scale) for axis, scale in zip("xy", scales, strict=True)},
        "layer": [
            _front_layer(front, scales),
            _interval_layer("x"),
            _interval_layer("y"),
            _leader_layer(),
            _marks_layer(drawn, width),
            _ring_layer(),
            _label_layer(halo=True),
            _label_layer(halo=False),
        ],
    }


def _nothing(title: Spec, width: int) -> Spec:
    """Say in words that there is nothing to draw: axes without a point have no size."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": title,
        "width": width,
        "height": 60,
        "data": {"values": [{}]},
        "mark": {"type": "text", "fontSize": 14, "color": {"expr": "muted"}},
        "encoding": {"text": {"value": "Nothing to draw: no level has both figures."}},
    }


def _is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _why_absent(point: ParetoPoint, x: Axis, y: Axis) -> str:
    if point.state == "failed":
        return "failed"
    missing = [axis.title for axis, value in ((x, point.x), (y, point.y)) if not _is_known(value)]
    return f"no {' and no '.join(missing)}"


def _scale(axis: Axis, points: Sequence[ParetoPoint], name: Literal["x", "y"]) -> Scale:
    values = [value for p in points if (value := getattr(p, name)) is not None]
    ends = [end for p in points for end in getattr(p, f"{name}_interval") or () if math.isfinite(end)]
    if values and min(values) >= 0:
        # An interval that reaches to zero must not make a linear axis of a logarithmic one, nor ten empty decades.
        least = min((v for v in values if v > 0), default=0.0)
        ends = [end for end in ends if end >= least / 3]
    return fitted(axis, [*values, *ends])


def _front(points: Sequence[ParetoPoint], x: Axis, y: Axis) -> list[ParetoPoint]:
    """Return what no other beats in both axes, from left to right."""

    def gains(point: ParetoPoint) -> tuple[float, float]:
        along, up = point.x or 0.0, point.y or 0.0
        return (along if x.better == "higher" else -along, up if y.better == "higher" else -up)

    able = [p for p in points if p.state in ("front", "recommended")]
    kept = []
    best = -math.inf
    for point in sorted(able, key=gains, reverse=True):
        if gains(point)[1] > best:
            best = gains(point)[1]
            kept.append(point)
    return sorted(kept, key=lambda p: p.x or 0.0)


def _places(
    points: Sequence[ParetoPoint], front: Sequence[ParetoPoint], scales: tuple[Scale, Scale], field_px: tuple[int, int]
) -> list[Place]:
    def pixel(x: float | None, y: float | None) -> Pixel:
        along, up = (s.share(s.shown(v) or 0.0) for s, v in zip(scales, (x, y), strict=True))
        return along * field_px[0], (1 - up) * field_px[1]

    bars = [[pixel(end, p.y) for end in p.x_interval] for p in points if p.x_interval]
    bars += [[pixel(p.x, end) for end in p.y_interval] for p in points if p.y_interval]
    marks = []
    for p in points:
        text = shortened(p.label, _LABEL_CHARACTERS)
        reach_px = _RING_PX if p.state == "recommended" else math.sqrt(_area(p, points) / math.pi)
        marks.append(Mark(*pixel(p.x, p.y), reach_px, width_px(text)))
    return placed(marks, Box(0, 0, *field_px), [[pixel(p.x, p.y) for p in front], *bars])


def _area(point: ParetoPoint, points: Sequence[ParetoPoint]) -> float:
    """Return the square pixels of a mark: in proportion to the bytes, the largest file's is the largest."""
    most = max((p.size_bytes or 0.0 for p in points), default=0.0)
    return _MOST_AREA * point.size_bytes / most if point.size_bytes and most else _PLAIN_AREA


def _row(point: ParetoPoint, place: Place, x: Axis, y: Axis, scales: tuple[Scale, Scale]) -> Spec:
    size = scale_for([point.size_bytes], "bytes") if point.size_bytes else None
    tip = {
        "title": plain(point.label),
        x.title: _written(point.x, point.x_interval, x),
        y.title: _written(point.y, point.y_interval, y),
        **({"File size": f"{size.write(point.size_bytes)} {size.symbol}"} if size and point.size_bytes else {}),
        "State": _MARKS[point.state][0],
        **{plain(key): shortened(value, _DETAIL_CHARACTERS) for key, value in point.details.items()},
    }
    row: Spec = {
        "label": shortened(point.label, _LABEL_CHARACTERS),
        "state": _MARKS[point.state][0],
        "tip": tip,
        "dx": round(place.dx, 1),
        "dy": round(place.dy, 1),
        "align": place.align,
    }
    if point.size_bytes:
        row["size"] = point.size_bytes
    if place.leader:
        row["lx"], row["ly"] = (round(v, 1) for v in place.leader)
    for name, scale, value, interval in (
        ("x", scales[0], point.x, point.x_interval),
        ("y", scales[1], point.y, point.y_interval),
    ):
        row[name] = scale.shown(value)
        if interval is not None:
            row[f"{name}_low"], row[f"{name}_high"] = (scale.shown(end) for end in interval)
    return row


def _written(value: float | None, interval: tuple[float, float] | None, axis: Axis) -> str:
    text = human(value, axis.unit)
    if interval is None:
        return text
    return f"{text} ({human(interval[0], axis.unit)} to {human(interval[1], axis.unit)})"


def _title(title: str, subtitle: str, width: int) -> Spec:
    spec: Spec = {"text": lines(title, width, TITLE_PX)}
    if subtitle:
        spec["subtitle"] = [line for part in subtitle.splitlines() for line in lines(part, width)]
    return spec


def _position(name: str, scale: Scale) -> Spec:
    return {"field": name, "type": "quantitative", "scale": scale.scale_spec(), "axis": scale.axis_spec()}


def _front_layer(front: Sequence[ParetoPoint], scales: tuple[Scale, Scale]) -> Spec:
    rows = [{"x": scales[0].shown(p.x), "y": scales[1].shown(p.y)} for p in front]
    return {
        "data": {"values": rows},
        "mark": {"type": "line", "color": {"expr": "front"}, "opacity": 0.55, "strokeWidth": 1.5, "tooltip": None},
    }


def _interval_layer(name: Literal["x", "y"]) -> Spec:
    return {
        "transform": [{"filter": f"isValid(datum.{name}_low)"}],
        "mark": {"type": "rule", "strokeWidth": 1.2, "opacity": 0.7, "color": {"expr": "muted"}, "tooltip": None},
        "encoding": {name: {"field": f"{name}_low"}, f"{name}2": {"field": f"{name}_high"}},
    }


def _leader_layer() -> Spec:
    offsets = {"x2Offset": {"expr": "datum.lx"}, "y2Offset": {"expr": "datum.ly"}}
    return {
        "transform": [{"filter": "isValid(datum.lx)"}],
        "mark": {"type": "rule", "strokeWidth": 0.7, "color": {"expr": "muted"}, "tooltip": None, **offsets},
        "encoding": {"x2": {"field": "x"}, "y2": {"field": "y"}},
    }


def _marks_layer(points: Sequence[ParetoPoint], width: int) -> Spec:
    present = [state for state in _MARKS if any(p.state == state for p in points)]
    names = [_MARKS[state][0] for state in present]
    legend = {"title": None, "orient": "bottom", "symbolSize": 110, "columns": max(1, width // 125)}
    size: Spec = {"value": _PLAIN_AREA}
    if sizes := [p.size_bytes for p in points if p.size_bytes]:
        symbol = scale_for(sizes, "bytes")
        size = {
            "field": "size",
            "type": "quantitative",
            "scale": {"domain": [0, max(sizes)], "range": [0, _MOST_AREA], "zero": True},
            "legend": {
                "title": f"file size, {symbol.symbol}",
                "orient": "bottom",
                "values": sorted({max(sizes) / 4, max(sizes) / 2, max(sizes)}),
                "labelExpr": f"format(datum.value / {symbol.factor}, '.3~g')",
                "symbolFillColor": "transparent",
            },
        }
    return {
        "mark": {"type": "point", "filled": True, "opacity": 0.9, "tooltip": {"expr": "datum.tip"}},
        "encoding": {
            "color": {
                "field": "state",
                "type": "nominal",
                "scale": {"domain": names, "range": [{"expr": state} for state in present]},
                "legend": legend,
            },
            "shape": {
                "field": "state",
                "type": "nominal",
                "scale": {"domain": names, "range": [_MARKS[state][1] for state in present]},
                "legend": legend,
            },
            "size": size,
            "description": {"field": "label"},
        },
    }


def _ring_layer() -> Spec:
    ring = {"filled": False, "shape": "circle", "strokeWidth": 1.5, "size": math.pi * _RING_PX**2}
    return {
        "transform": [{"filter": {"field": "state", "equal": _MARKS["recommended"][0]}}],
        "mark": {"type": "point", **ring, "color": {"expr": "recommended"}, "aria": False, "tooltip": None},
    }


def _label_layer(*, halo: bool) -> Spec:
    """Write the labels, or the paper about them: a line behind a word shall not strike it through."""
    given: Spec = {name: {"expr": f"datum.{name}"} for name in ("dx", "dy", "align")}
    if halo:
        given |= {"stroke": {"expr": "paper"}, "strokeWidth": 3, "strokeJoin": "round", "opacity": 0.85, "aria": False}
    bold = {"expr": f"datum.state === '{_MARKS['recommended'][0]}' ? 'bold' : 'normal'"}
    return {
        "mark": {"type": "text", "baseline": "middle", "fontWeight": bold, "tooltip": None, **given},
        "encoding": {"text": {"field": "label", "type": "nominal"}},
    }
