"""`melt runs`: what is in the store, newest first."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from melt.cli._left_out import left_out_by, say_left_out
from melt.cli._storeargs import add_selection_arguments, add_store_argument, open_store, selection_from_args

if TYPE_CHECKING:
    from melt.store.listing import RunLine

NAME = "runs"
HELP = "list the runs in the store, newest first"
FORMATS = ("table", "md", "json", "jsonl", "csv")

_SHOWN = 50
"""Lines of a table when nobody asked for a number; data formats give everything."""

_RATES = {"prefill_tps": "prefill tok/s", "decode_tps": "decode tok/s", "inferences_per_s": "inferences/s"}
_BEFORE = ("run", "when", "device", "model", "workload")
_KEYS = (
    "run_id",
    "sweep_id",
    "session",
    "apart",
    "cell_key",
    "block",
    "started",
    "started_utc_ns",
    "device",
    "os_build",
    "model",
    "quant",
    "bits_per_weight",
    "engine",
    "engine_revision",
    "workload",
    "threads",
    "prefill_tps",
    "decode_tps",
    "inferences_per_s",
    "outcome",
    "verdict",
    "reasons",
    "tags",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this verb."""
    add_store_argument(parser)
    parser.add_argument("-o", "--output", choices=FORMATS, default="table", help="form of the list (default: table)")
    add_selection_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    from dataclasses import replace

    from melt.report.table import render_table, write_rows

    with open_store(args) as store:
        selection = selection_from_args(args, store)
        as_table = args.output in ("table", "md")
        capped = as_table and selection.limit is None
        lines = store.listing(replace(selection, limit=_SHOWN) if capped else selection)
        total = store.count(selection) if capped and len(lines) == _SHOWN else len(lines)
        say_left_out(left_out_by(selection, store))
    if not as_table:
        sys.stdout.write(write_rows(_KEYS, [_record(line) for line in lines], args.output))
        return 0
    if not lines:
        print("melt: no such runs" if total == 0 and _filtered(args) else "melt: no runs yet", file=sys.stderr)
        return 0
    rates = _rates_of(lines)
    headers = (*_BEFORE, *(_RATES[name] for name in rates), "outcome", "verdict")
    numeric = range(len(_BEFORE), len(_BEFORE) + len(rates))
    sys.stdout.write(render_table(None, headers, [_row(line, rates) for line in lines], args.output, numeric=numeric))
    if total > len(lines):
        print(f"melt: the newest {len(lines)} of {total} runs; more with --limit {total}", file=sys.stderr)
    return 0


def _filtered(args: argparse.Namespace) -> bool:
    names = ("sweep", "device", "model", "quant", "workload", "engine", "outcome", "verdict", "tag", "since")
    return args.only_valid or any(getattr(args, name) is not None for name in names)


def _rates_of(lines: Sequence[RunLine]) -> list[str]:
    """Return the columns of rates: those of tokens, but where all that was measured is single-shot models."""
    seen = {name for name in _RATES for line in lines if getattr(line, name) is not None}
    of_tokens = ["prefill_tps", "decode_tps"] if seen != {"inferences_per_s"} else []
    return of_tokens + (["inferences_per_s"] if "inferences_per_s" in seen else [])


def _row(line: RunLine, names: Sequence[str]) -> list[str]:
    from melt.plan.expand import PROFILED

    when = datetime.fromtimestamp(line.started_utc_ns // 1_000_000_000).strftime("%Y-%m-%d %H:%M")
    model = "/".join(filter(None, (line.model, line.quant)))
    verdict = " ".join(filter(None, (line.verdict, ", ".join(line.reasons))))
    rates = [_rate(getattr(line, name)) for name in names]
    workload = f"{line.workload}, profiled" if line.cell_key.startswith(PROFILED) else line.workload
    return [line.run_id, when, line.device, model, workload, *rates, line.outcome, verdict]


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _record(line: RunLine) -> dict[str, Any]:
    started = datetime.fromtimestamp(line.started_utc_ns // 1_000_000_000, UTC).isoformat()
    return {**{key: getattr(line, key) for key in _KEYS if key != "started"}, "started": started}
