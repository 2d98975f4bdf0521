"""A comparison for people: a table for each group, then what must be known to read it."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from melt.analysis.alike import power_mode
from melt.analysis.columns import info
from melt.analysis.compare import Cell, Column, Comparison, Group, Row
from melt.analysis.heat import ONLY_WHERE_TOLD
from melt.analysis.judgement import Judgement
from melt.analysis.statistics import MIN_SESSIONS
from melt.records import Outcome, RunStart, Verdict
from melt.report.comparison_data import flat, nested
from melt.report.scale import Scale, percent, scale_for
from melt.report.table import render_table, write_rows
from melt.report.words import engine_name, joined, would_be_missed
from melt.units import counted

_GAP_CELLS = 3
_FIXED = 2
"""Columns before the first that is compared: the metric and its unit."""

_NO_DIFFERENCE = "≈"


def render(comparison: Comparison, fmt: str) -> str:
    """Write a comparison as `table`, `md`, `json`, `jsonl` or `csv`; the text ends a line. Raises UsageError."""
    if fmt == "json":
        return nested(comparison)
    if fmt in ("jsonl", "csv"):
        headers, records = flat(comparison)
        return write_rows(headers, records, fmt)
    captions = [_caption(group, comparison.by) for group in comparison.groups]
    alike = len(set(captions)) == 1
    parts = ["".join(f"{line}\n" for line in _wrapped(captions[0], fmt))] if alike else []
    for group, caption in zip(comparison.groups, captions, strict=True):
        title = group.label if alike else _title(group, caption)
        parts += _tables(title, comparison.by, group, fmt)
    bullet = "- " if fmt == "md" else ""
    parts.append("".join(f"{bullet}{line}\n" for line in _wrapped(_footers(comparison), fmt)))
    return "\n".join(parts)


def _wrapped(lines: Iterable[str], fmt: str) -> Iterator[str]:
    """Break sentences for a screen; Markdown flows by itself."""
    for line in lines:
        if fmt == "md":
            yield line
        else:
            room = shutil.get_terminal_size().columns
            yield from textwrap.wrap(line, room, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _title(group: Group, caption: Sequence[str]) -> str:
    """Put what sets a group apart before its caption, which names model and engine anyhow."""
    spec = group.start.spec
    return joined((*(part for part in group.label.split(", ") if part not in (spec.model, spec.engine)), *caption))


def _caption(group: Group, by: str) -> tuple[str, ...]:
    """Say with what the runs were made, and on what: a line for each device."""
    spec = group.start.spec
    asked = (spec.model, engine_name(spec.engine, group.revision), None if by == "threads" else _threads(group.columns))
    starts = [column.start for column in group.columns] if by == "device" else [group.start]
    return (joined(asked), *(_described(start, by) for start in starts))


def _threads(columns: Sequence[Column]) -> str | None:
    """Say how many threads there were: once, or column by column."""
    counts = {column.label: column.start.spec.settings.threads for column in columns}
    if len(set(counts.values())) > 1:
        return f"threads: {', '.join(f'{label} {n}' for label, n in counts.items())}"
    n = next(iter(counts.values()))
    return None if n is None else counted(n, "thread")


def _described(start: RunStart, by: str) -> str:
    device = start.device
    cpus = counted(len(device.cpus), "CPU") if device.cpus else None
    system = " ".join(filter(None, (device.os_build or device.os, device.arch)))
    mode = None if by == "power_mode" else power_mode(start)
    return joined((device.name, device.soc, cpus, system, mode, device.virtualization))


def _tables(title: str, by: str, group: Group, fmt: str) -> Iterator[str]:
    """Yield one table, or several with the first column in each where the screen is too narrow for all columns."""
    room = shutil.get_terminal_size().columns
    lines = [_Line(row, group.columns) for row in group.rows]
    headers = [by.replace("_", " "), "", *(_heading(column) for column in group.columns)]
    for joint in ("  ", "\n"):
        texts = [[line.label, line.unit, *(line.cell(i, joint) for i in range(len(group.columns)))] for line in lines]
        if fmt == "md" or _width(headers, texts, range(len(headers))) <= room:
            shown = [list(range(len(headers)))]
            break
    else:
        shown = _split(headers, texts, _FIXED + group.base, room)
    for columns in shown:
        rows = [[row[i] for i in columns] for row in texts]
        yield render_table(title or None, [headers[i] for i in columns], rows, fmt, numeric=range(_FIXED, len(columns)))


def _split(headers: Sequence[str], texts: Sequence[Sequence[str]], base: int, room: int) -> list[list[int]]:
    """Deal the columns out evenly to as few tables as fit into `room`; the column compared with stands in each."""
    others = [i for i in range(_FIXED, len(headers)) if i != base]
    shown: list[list[int]] = []
    for n_tables in range(1, max(1, len(others)) + 1):
        size = max(1, -(-len(others) // n_tables))
        chunks = [others[i : i + size] for i in range(0, len(others), size)] or [[]]
        shown = [[*range(_FIXED), *sorted((base, *chunk))] for chunk in chunks]
        if all(_width(headers, texts, columns) <= room for columns in shown):
            break
    return shown


def _width(headers: Sequence[str], rows: Sequence[Sequence[str]], shown: Sequence[int]) -> int:
    return sum(max(len(line) for row in (headers, *rows) for line in row[i].split("\n")) + _GAP_CELLS for i in shown)


class _Line:
    """A row being written: all of its cells share a scale."""

    def __init__(self, row: Row, columns: Sequence[Column]) -> None:
        self._row = row
        self._columns = columns
        self._scale: Scale = scale_for((c.summary.median for c in row.cells if c.summary), row.info.unit)
        self.label = row.info.title
        self.unit = self._scale.symbol

    def cell(self, index: int, joint: str) -> str:
        """Write a median with its spread and, after `joint`, its difference from the first column."""
        cell, column = self._row.cells[index], self._columns[index]
        if cell.summary is None:
            return _outcome(column) if column.n_believed == 0 else "-"
        return joint.join(filter(None, (self._value(cell), _difference(cell))))

    def _value(self, cell: Cell) -> str:
        summary = cell.summary
        if summary is None:
            return ""
        median = self._scale.write(summary.median)
        half = math.hypot((summary.high - summary.low) / 2, cell.uncertainty or 0.0)
        return f"{median} {self._scale.spread(half)}".rstrip()


def _difference(cell: Cell) -> str:
    if cell.difference is None:
        return ""
    mark = f" {_NO_DIFFERENCE}" if cell.judgement is Judgement.NO_DIFFERENCE else ""
    return percent(cell.difference) + mark


def _heading(column: Column) -> str:
    """Name a column, and say when not all of its sessions are good."""
    total = sum(column.outcomes.values())
    doubts = [f"{column.n_ok} of {total} ok"] if 0 < column.n_ok < total else []
    doubts += [
        str(v) if n == column.n_ok else f"{n} of {column.n_ok} {v}"
        for v, n in column.verdicts.items()
        if v is not Verdict.VALID
    ]
    return "\n".join((column.label, *doubts))


def _outcome(column: Column) -> str:
    bad = {outcome: n for outcome, n in column.outcomes.items() if outcome is not Outcome.OK}
    if column.n_ok:
        return str(Verdict.INVALID)
    return str(max(bad, key=lambda outcome: bad[outcome])) if bad else "-"


def _footers(comparison: Comparison) -> Iterator[str]:
    yield _how_to_read(comparison)
    yield from _how_sure(comparison)
    if comparison.unmeasured:
        reasons: dict[str, list[str]] = {}
        for name, why in comparison.unmeasured.items():
            reasons.setdefault(why, []).append(info(name).title)
        listed = "; ".join(f"{', '.join(titles)} ({why})" for why, titles in reasons.items())
        yield f"Not measured here: {listed}."
    yield from comparison.notes


def _how_to_read(comparison: Comparison) -> str:
    columns = [column for group in comparison.groups for column in group.columns]
    counts = sorted({column.n_believed for column in columns if column.n_believed})
    spreads = {c.summary.spread_kind for g in comparison.groups for r in g.rows for c in r.cells if c.summary}
    against = sorted({g.columns[g.base].label for g in comparison.groups if len(g.columns) > 1})
    if not counts:
        return "No session is valid." if any(column.n_ok for column in columns) else "No session ended well."
    if counts == [1]:
        text = "One session a column: its medians, without spread"
    else:
        sessions = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        ranges = " or ".join(sorted(spreads))
        text = f"Medians of {sessions} sessions, ± half their {ranges} range"
    off = {r.metric in ONLY_WHERE_TOLD for g in comparison.groups for r in g.rows for c in r.cells if c.uncertainty}
    if False in off:
        text += "; of power and energy ± also holds what their meter may be off by, in all columns alike"
    if True in off:
        text += "; of heat ± also holds how finely it was looked at"
    return f"{text}; differences are from {' or '.join(against)}." if against else f"{text}."


def _how_sure(comparison: Comparison) -> Iterator[str]:
    cells = [(row, cell) for group in comparison.groups for row in group.rows for cell in row.cells]
    judgements = {cell.judgement for _, cell in cells}
    if Judgement.TOO_FEW in judgements:
        effect = would_be_missed("difference in", [(row.metric, cell.detectable) for row, cell in cells])
        yield f"Too few sessions to judge whether differences are real: {MIN_SESSIONS} a column are needed{effect}."
    if Judgement.NO_DIFFERENCE in judgements:
        yield f"{_NO_DIFFERENCE}: no difference seen (its 95 % interval includes none); all others are told apart."
