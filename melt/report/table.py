"""Rows as a table for a terminal, as Markdown, CSV, JSON or JSON lines. The text returned always ends its last line."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from melt.codec import to_dict
from melt.errors import UsageError
from melt.report.words import steady

_GAP_CELLS = 3
"""Cells that a column costs beside its text: the padding and the box."""

_UNLIMITED = 100_000

Rows = Sequence[Sequence[str]]


def render_table(
    title: str | None,
    headers: Sequence[str],
    rows: Rows,
    fmt: str,
    *,
    numeric: Collection[int] = (),
) -> str:
    """Lay out rows of text as `table`, `md` or `csv`.

    Columns whose index is in `numeric` are aligned right and never broken. On a terminal, text columns wrap to its
    width; elsewhere (a pipe, a file) nothing is wrapped, coloured or cut. Raises UsageError for another `fmt`.
    """
    if fmt in ("table", "md"):
        lay_out = _terminal if fmt == "table" else _markdown
        title = None if title is None else steady(title)
        return lay_out(title, [*map(steady, headers)], [[*map(steady, row)] for row in rows], numeric)
    if fmt == "csv":
        return _csv([headers, *rows])
    raise UsageError(f"a table cannot be written as {fmt!r}: choose table, md or csv")


def write_rows(headers: Sequence[str], records: Sequence[Mapping[str, Any]], fmt: str) -> str:
    """Write records as `json` (one array), `jsonl` or `csv`, keys in the order of `headers`; others are left out.

    What was not measured (None, NaN) becomes null, or an empty cell. Raises UsageError for another `fmt`.
    """
    plain = [{key: _plain(record.get(key)) for key in headers} for record in records]
    if fmt == "json":
        return json.dumps(plain, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    if fmt == "jsonl":
        return "".join(json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n" for row in plain)
    if fmt == "csv":
        return _csv([headers, *([_cell(row[key]) for key in headers] for row in plain)])
    raise UsageError(f"rows cannot be written as {fmt!r}: choose json, jsonl or csv")


def _terminal(title: str | None, headers: Sequence[str], rows: Rows, numeric: Collection[int]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    table = Table(
        title=None if title is None else Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for index, width in enumerate(_widths(headers, rows, numeric, room)):
        justify: Literal["left", "right"] = "right" if index in numeric else "left"
        table.add_column(Text(headers[index]), justify=justify, width=width, header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    out = io.StringIO()
    # The widths are decided above; rich would rather drop a column than go over its own.
    Console(file=out, force_terminal=room is not None, width=_UNLIMITED, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n")).strip("\n") + "\n"


def _widths(headers: Sequence[str], rows: Rows, numeric: Collection[int], room: int | None) -> list[int]:
    """Give each column the cells it wants; to fit into `room`, narrow the widest text columns, never below a word."""
    from rich.cells import cell_len

    wanted, least = [], []
    for index, header in enumerate(headers):
        texts = [header, *(row[index] for row in rows)]
        wanted.append(max((cell_len(line) for text in texts for line in text.split("\n")), default=0))
        words = max((cell_len(word) for text in texts for word in text.split()), default=0)
        least.append(wanted[-1] if index in numeric else words)
    while room is not None and sum(wanted) + _GAP_CELLS * len(wanted) > room:
        widest = max(range(len(wanted)), key=lambda i: (wanted[i] > least[i], wanted[i]))
        if wanted[widest] <= least[widest]:
            break
        wanted[widest] -= 1
    return wanted


def _markdown(title: str | None, headers: Sequence[str], rows: Rows, numeric: Collection[int]) -> str:
    rule = ["---:" if index in numeric else "---" for index in range(len(headers))]
    lines = [f"| {' | '.join(_md_cell(cell) for cell in row)} |" for row in (headers, rule, *rows)]
    heading = [] if title is None else [f"### {title}", ""]
    return "\n".join([*heading, *lines]) + "\n"


def _md_cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", "<br>")


def _csv(rows: Rows) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _plain(value: Any) -> Any:
    """Turn a value into plain JSON types, NaN and infinities into null."""
    value = to_dict(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
