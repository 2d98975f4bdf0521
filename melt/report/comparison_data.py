"""A comparison for programs: nested for JSON, a record per cell for JSON lines and CSV."""

from __future__ import annotations

import json
from typing import Any

from melt.analysis.compare import Cell, Column, Comparison, Group, Row
from melt.codec import to_dict

_HEADERS = (
    "device_id",
    "device",
    "model",
    "workload",
    "group",
    "by",
    "column",
    "outcomes",
    "verdicts",
    "metric",
    "unit",
    "sessions",
    "median",
    "low",
    "high",
    "spread",
    "mad",
    "difference",
    "judgement",
    "detectable",
    "uncertainty",
)


def flat(comparison: Comparison) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Return the keys and a record per cell; differences are fractions of the first column of the same group."""
    records = [
        {**_group(group), "by": comparison.by, "column": column.label, **_states(column), **_row(row), **_cell(cell)}
        for group in comparison.groups
        for row in group.rows
        for column, cell in zip(group.columns, row.cells, strict=True)
    ]
    return _HEADERS, records


def nested(comparison: Comparison) -> str:
    """Return one JSON document."""
    document = {
        "by": comparison.by,
        "groups": [
            {
                **_group(group),
                "columns": [
                    {"label": column.label, "runs": list(column.run_ids), **_states(column)} for column in group.columns
                ],
                "rows": [{**_row(row), "cells": [_cell(cell) for cell in row.cells]} for row in group.rows],
            }
            for group in comparison.groups
        ],
        "unmeasured": dict(comparison.unmeasured),
        "order_effects": [to_dict(effect) for effect in comparison.order_effects],
        "notes": list(comparison.notes),
    }
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _group(group: Group) -> dict[str, Any]:
    start = group.start
    return {
        "device_id": start.device.device_id,
        "device": start.device.name,
        "model": start.spec.model,
        "workload": start.spec.workload.name,
        "group": group.label,
    }


def _states(column: Column) -> dict[str, Any]:
    return {
        "outcomes": {str(outcome): n for outcome, n in column.outcomes.items()},
        "verdicts": {str(verdict): n for verdict, n in column.verdicts.items()},
    }


def _row(row: Row) -> dict[str, Any]:
    return {"metric": row.metric, "unit": row.info.unit}


def _cell(cell: Cell) -> dict[str, Any]:
    summary = cell.summary
    return {
        "sessions": 0 if summary is None else summary.n,
        "median": None if summary is None else summary.median,
        "low": None if summary is None else summary.low,
        "high": None if summary is None else summary.high,
        "spread": None if summary is None or summary.n < 2 else summary.spread_kind,
        "mad": None if summary is None else summary.mad,
        "difference": cell.difference,
        "judgement": None if cell.judgement is None else str(cell.judgement),
        "detectable": cell.detectable,
        "uncertainty": cell.uncertainty,
    }
