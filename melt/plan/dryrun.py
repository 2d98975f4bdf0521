"""What a plan will cost, as a record, and its forms for people and programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

from melt.plan.expand import Cell
from melt.records import Conditions, Settings

_IN_TABLE = ("device", "model", "quant", "engine", "workload", "settings", "conditions", "runs", "expected_s")
_COLUMNS = (*_IN_TABLE, "basis", "runs_min", "expected_min_s")
_NUMBERS = ("runs", "expected_s")

Row = dict[str, str | int | float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellEstimate:
    """One cell of a dry run. `expected_s` is for all its runs; `basis` is `earlier`, `guess` or `unknown`.

    `runs_min` and `expected_min_s` are for those that are made whatever the first ones tell.
    """

    cell: Cell
    runs: int
    runs_min: int
    expected_s: float | None
    expected_min_s: float | None
    basis: str

    def row(self) -> Row:
        """Return the cell flat, by the names of a table's columns."""
        return {
            "device": self.cell.device,
            "model": self.cell.model,
            "quant": self.cell.quant,
            "engine": self.cell.engine,
            "workload": self.cell.workload.name,
            "settings": changed_label(self.cell.settings, Settings()),
            "conditions": changed_label(self.cell.conditions, Conditions()),
            "runs": self.runs,
            "expected_s": None if self.expected_s is None else round(self.expected_s, 1),
            "basis": self.basis,
            "runs_min": self.runs_min,
            "expected_min_s": None if self.expected_min_s is None else round(self.expected_min_s, 1),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a plan asks for at most. `expected_s` and `bytes_to_push` are None when a part of them is unknown.

    `runs_min` and `expected_min_s` are what it asks for at least, less only where sessions depend on a precision.
    `order_seed` is what a random order was drawn with. `lines` says the same in sentences, and what is only a guess.
    """

    cells: tuple[CellEstimate, ...]
    runs: int
    runs_min: int
    expected_s: float | None
    expected_min_s: float | None
    bytes_to_push: int | None
    lines: tuple[str, ...]
    order: str | None = None
    order_seed: int | None = None

    def render(self, form: str) -> str:
        """Write the dry run as `table`, `md`, `json`, `jsonl` or `csv`; the last two hold the cells alone."""
        rows = [cell.row() for cell in self.cells]
        if form == "json":
            totals = {"runs": self.runs, "expected_s": self.expected_s, "bytes_to_push": self.bytes_to_push}
            totals |= {"runs_min": self.runs_min, "expected_min_s": self.expected_min_s}
            order = {"order": self.order, "order_seed": self.order_seed}
            whole = {"cells": rows, **totals, **order, "notes": self.lines}
            return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
        if form == "jsonl":
            return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        if form == "csv":
            return _csv(rows)
        table = _table(rows, markdown=form == "md")
        return table + "\n" + "".join(f"{line}\n" for line in self.lines)


def changed_label(chosen: Settings | Conditions, default: Settings | Conditions) -> str:
    """Name the fields that are not the default: `threads=2 flash_attn=on`."""
    names = (field.name for field in fields(chosen))
    changed = (name for name in names if getattr(chosen, name) != getattr(default, name))
    values = ((name, getattr(chosen, name)) for name in changed)
    return " ".join(f"{name}={'+'.join(value) if isinstance(value, tuple) else value}" for name, value in values)


def clock(seconds: float) -> str:
    """Write a duration for a person: `2.4 s`, `40 s`, `5 min 20 s`, `3 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole_s = round(seconds)
    if whole_s < 60:
        return f"{whole_s} s"
    if whole_s < 3600:
        return f"{whole_s // 60} min {whole_s % 60:02} s"
    return f"{whole_s // 3600} h {whole_s % 3600 // 60:02} min"


def span(least_s: float, most_s: float) -> str:
    """Write from how long to how long something may take; once where both read the same."""
    least, most = clock(least_s), clock(most_s)
    return most if least == most else f"{least} to {most}"


def _csv(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _table(rows: Sequence[Row], *, markdown: bool) -> str:
    """Lay out the cells in columns; a column in which nothing is said is left out."""
    columns = [name for name in _IN_TABLE if any(row[name] not in (None, "") for row in rows)]
    heads = ["expected" if name == "expected_s" else name for name in columns]
    lines = [heads, *([_shown(row, name, markdown) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    if markdown:
        lines.insert(
            1, ["-" * (w - 1) + (":" if name in _NUMBERS else "-") for w, name in zip(widths, columns, strict=True)]
        )
    padded = (
        [
            cell.rjust(w) if name in _NUMBERS else cell.ljust(w)
            for cell, w, name in zip(line, widths, columns, strict=True)
        ]
        for line in lines
    )
    return "".join(f"| {' | '.join(line)} |\n" if markdown else "  ".join(line).rstrip() + "\n" for line in padded)


def _shown(row: Row, name: str, markdown: bool) -> str:
    value = row[name]
    if value is None:
        return "-"
    if name == "expected_s":
        return ("~" if row["basis"] == "guess" else "") + span(float(row["expected_min_s"] or 0), float(value))
    if name == "runs" and row["runs_min"] != value:
        return f"{row['runs_min']}-{value}"
    return str(value).replace("|", "\\|") if markdown else str(value)
