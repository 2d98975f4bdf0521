"""B against A: for people a table for each cell and a verdict, for programs every number behind it."""

from __future__ import annotations

import json
import math
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from melt.analysis.ab import Change, Difference
from melt.analysis.columns import info
from melt.analysis.pairs import AB, Cell, Side
from melt.analysis.statistics import MIN_SESSIONS
from melt.report.scale import percent, scale_for
from melt.report.table import render_table, write_rows
from melt.report.words import steady, would_be_missed
from melt.units import counted

_WIDE = 118
"""Cells that a table with the interval in the line of its change takes."""

_HEADERS = (
    "cell",
    "model",
    "workload",
    "a",
    "b",
    "device_a",
    "device_b",
    "metric",
    "unit",
    "sessions_a",
    "sessions_b",
    "median_a",
    "median_b",
    "ratio",
    "low",
    "high",
    "shift",
    "p",
    "p_holm",
    "threshold",
    "detectable",
    "verdict",
    "why",
)


def render_ab(comparison: AB, selections: tuple[str, str], fmt: str) -> str:
    """Write a comparison as `table`, `md`, `json`, `jsonl` or `csv`; the text ends a line. Raises UsageError.

    `selections` are the words that chose the two sides.
    """
    if fmt == "json":
        return _document(comparison, selections)
    if fmt in ("jsonl", "csv"):
        records = [_record(comparison, cell, one) for cell in comparison.cells for one in cell.differences]
        return write_rows(_HEADERS, records, fmt)
    parts = [_table(comparison, cell, fmt) for cell in comparison.cells]
    bullet = "- " if fmt == "md" else ""
    lines = [*_introduced(comparison, selections), *_footers(comparison), verdict_line(comparison)]
    parts.append("".join(f"{bullet}{line}\n" for line in _wrapped(lines, fmt)))
    return "\n".join(parts)


def verdict_line(comparison: AB) -> str:
    """Say in a sentence what became of B, and of which figures that is said."""
    changes = Counter(d.change for cell in comparison.cells for d in cell.differences if d.change is not None)
    listed = ", ".join(f"{changes[change]} {change}" for change in Change if changes[change])
    told = [
        f"{_place(comparison, cell)}{what}" for cell in comparison.cells for what in _behind(cell, comparison.change)
    ]
    named = f": {'; '.join(told)}" if told else ""
    return f"Verdict: {comparison.change}{named}" + (f" ({listed})." if listed else ".")


def _behind(cell: Cell, change: Change) -> Iterator[str]:
    """Yield what makes the verdict in a cell, if it is a change."""
    if change not in (Change.REGRESSED, Change.IMPROVED):
        return
    if cell.change is change and cell.why:
        yield cell.why
    for one in cell.differences:
        if one.change is change and one.ratio is not None:
            yield f"{info(one.metric).title} {percent(one.ratio - 1)}"


def _place(comparison: AB, cell: Cell) -> str:
    return f"{cell.label}: " if len(comparison.cells) > 1 else ""


def _table(comparison: AB, cell: Cell, fmt: str) -> str:
    narrow = fmt == "table" and shutil.get_terminal_size().columns < _WIDE
    sides = [f"{side.label}\n{counted(side.sessions, 'session')}" for side in (cell.a, cell.b)]
    headers = ["", "", *sides, "change\n95 % interval" if narrow else "change, 95 % interval"]
    headers += ["shift", "p\nHolm", "seen\nfrom", "verdict"]
    rows = [_row(one, "\n" if narrow else "  ") for one in cell.differences]
    return render_table(cell.label or None, headers, rows, fmt, numeric=range(2, 8))


def _row(one: Difference, joint: str) -> list[str]:
    metric = info(one.metric)
    scale = scale_for((v for v in (one.a, one.b) if v is not None), metric.unit)
    values = ["-" if v is None else scale.write(v) for v in (one.a, one.b)]
    shift = "" if one.shift is None else _signed(scale.write(one.shift))
    return [
        metric.title,
        scale.symbol,
        *values,
        _change(one, joint),
        shift,
        "" if one.p_holm is None else _probability(one.p_holm),
        "" if one.detectable is None else f"{100 * one.detectable:.1f} %",
        "" if one.change is None else str(one.change),
    ]


def _signed(number: str) -> str:
    """Write a difference with its sign; what rounds to zero has none."""
    if float(number) == 0:
        return number.lstrip("-")
    return number.replace("-", "−") if number.startswith("-") else f"+{number}"


def _change(one: Difference, joint: str) -> str:
    if one.ratio is None:
        return ""
    if one.low is None or one.high is None:
        return percent(one.ratio - 1)
    return f"{percent(one.ratio - 1)}{joint}{percent(one.low - 1)} … {percent(one.high - 1)}"


def _probability(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _introduced(comparison: AB, selections: tuple[str, str]) -> Iterator[str]:
    starts = [side.start for cell in comparison.cells for side in (cell.a, cell.b)]
    models = dict.fromkeys(start.spec.model for start in starts)
    devices = dict.fromkeys(start.device.name for start in starts)
    yield f"{', '.join(models)} on {', '.join(devices)}."
    for label, selection, sides in zip(
        comparison.labels,
        selections,
        ([cell.a for cell in comparison.cells], [cell.b for cell in comparison.cells]),
        strict=True,
    ):
        name = label if label == selection else f"{label}, {selection}"
        yield f"{name}: {counted(sum(len(side.run_ids) for side in sides), 'run')}."


def _footers(comparison: AB) -> Iterator[str]:
    shown = [one for cell in comparison.cells for one in cell.differences]
    yield (
        f"Medians over sessions, {comparison.labels[1]} against {comparison.labels[0]}; shift: Hodges and Lehmann; "
        "p: Mann-Whitney, by Holm; seen from: the smallest change that would be told in 4 of 5 comparisons."
    )
    if counts := _counts_from(shown):
        yield f"A change counts from {counts} on."
    few = [one for one in shown if one.threshold is not None and one.p_holm is None]
    if few:
        effect = would_be_missed("change of", [(one.metric, one.detectable) for one in few])
        yield f"Insufficient power: {MIN_SESSIONS} sessions a side are needed to judge{effect}."
    for why in dict.fromkeys(one.why for one in shown if one.change is Change.INCOMPARABLE and one.why):
        yield f"{why}."
    for cell in comparison.cells:
        if cell.why:
            yield f"{_place(comparison, cell)}{cell.why}."
    yield from comparison.notes


def _counts_from(shown: Iterable[Difference]) -> str:
    by_threshold: dict[float, dict[str, None]] = {}
    for one in shown:
        if one.threshold is not None:
            by_threshold.setdefault(one.threshold, {})[info(one.metric).title] = None
    return "; ".join(f"{100 * least:g} % ({', '.join(titles)})" for least, titles in sorted(by_threshold.items()))


def _wrapped(lines: Iterable[str], fmt: str) -> Iterator[str]:
    for line in (steady(line).replace("\n", " ") for line in lines):
        if fmt == "md":
            yield line
        else:
            room = shutil.get_terminal_size().columns
            yield from textwrap.wrap(line, room, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _document(comparison: AB, selections: tuple[str, str]) -> str:
    document = {
        "a": {"label": comparison.labels[0], "selection": selections[0]},
        "b": {"label": comparison.labels[1], "selection": selections[1]},
        "verdict": str(comparison.change),
        "cells": [
            {
                **_cell(cell),
                "a": _side(cell.a),
                "b": _side(cell.b),
                "verdict": str(cell.change),
                "why": cell.why,
                "metrics": [_figures(one) for one in cell.differences],
            }
            for cell in comparison.cells
        ],
        "notes": list(comparison.notes),
    }
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _record(comparison: AB, cell: Cell, one: Difference) -> dict[str, Any]:
    a, b = comparison.labels
    devices = {"device_a": cell.a.start.device.name, "device_b": cell.b.start.device.name}
    return {**_cell(cell), "a": a, "b": b, **devices, **_figures(one)}


def _cell(cell: Cell) -> dict[str, Any]:
    spec = cell.b.start.spec
    return {"cell": cell.label, "model": spec.model, "workload": spec.workload.name}


def _side(side: Side) -> dict[str, Any]:
    device = side.start.device
    return {
        "device_id": device.device_id,
        "device": device.name,
        "os_build": device.os_build,
        "runs": list(side.run_ids),
        "sessions": side.sessions,
        "outcomes": {str(outcome): n for outcome, n in side.outcomes.items()},
    }


def _figures(one: Difference) -> dict[str, Any]:
    finite = {
        "median_a": one.a,
        "median_b": one.b,
        "ratio": one.ratio,
        "low": one.low,
        "high": one.high,
        "shift": one.shift,
        "p": one.p,
        "p_holm": one.p_holm,
        "threshold": one.threshold,
        "detectable": one.detectable,
    }
    return {
        "metric": one.metric,
        "unit": info(one.metric).unit,
        "sessions_a": one.n_a,
        "sessions_b": one.n_b,
        **{name: value if value is not None and math.isfinite(value) else None for name, value in finite.items()},
        "verdict": None if one.change is None else str(one.change),
        "why": one.why,
    }
