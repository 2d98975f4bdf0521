"""The tables of the MELT paper: throughput, energy, memory, quality in its units, and what is defined otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from melt.analysis.paper import Mean, PaperRow, PaperTable
from melt.report.table import render_table, write_rows

_WHO = ("device", "model", "level", "workload")
_MEANS: tuple[tuple[str, str], ...] = (
    ("prefill_tps", "prefill tok/s"),
    ("decode_tps", "decode tok/s"),
    ("energy_mwh", "energy mWh"),
    ("energy_per_token_mwh", "mWh/token"),
    ("discharge_mah", "discharge mAh"),
    ("discharge_per_token_mah", "mAh/token"),
    ("power_w", "power W"),
    ("peak_gb", "peak memory GB"),
)
_KEYS = (
    "device",
    "model",
    "quant",
    "workload",
    "sessions",
    *(f"{name}{part}" for name, _ in _MEANS for part in ("", "_std", "_n")),
    "sources",
    "perplexity",
    "accuracy",
)
_NOTES = (
    "± is the sample standard deviation over the repetitions of all sessions, pooled, as in the paper. None is "
    "dropped, MELT's notebooks drop the outermost. `melt compare` judges by sessions instead.",
    "Prefill: MELT's prompts have a length of their own each, here it is fixed. Decode: tokens after the first over "
    "the time since it, as llama.cpp's eval time.",
    "Energy: of a response, prefill and decode, idle power included; per token: that over the tokens generated (melt's "
    "own energy_per_token_j is decode alone). MELT's phones hang on a Monsoon in place of the battery, screen on at "
    "brightness 0, its Jetsons are read by their power rails; here it comes from: {sources}.",
    "Discharge: energy over the battery's voltage; MELT's is current at the Monsoon's own voltage. Compare mAh only at "
    "equal volts, mWh always.",
    "Peak memory: the most that the runner's process had resident, in 10^9 bytes; MELT's model_specs.csv lists what "
    "files and weights take.",
    "MELT samples at temperature 0.9 until the end of the answer or 256 tokens; melt's plan is greedy and of full "
    "length always.",
    "Perplexity and accuracy: of this very file, by `melt quality`. MELT's accuracies are by lm-evaluation-harness "
    "and, for Llama 2 and Gemma, of the base models, where it timed the chat models; it has no perplexity.",
)


def render_paper(table: PaperTable, fmt: str) -> str:
    """Write the table as `table`, `md`, `csv`, `json` or `jsonl`. Raises UsageError for another form."""
    if fmt not in ("table", "md"):
        return write_rows(_KEYS, [_record(row) for row in table.rows], fmt)
    columns = [column for column in _columns(table) if any(column[1](row) != "-" for row in table.rows)]
    headers = (*_WHO, *(title for title, _ in columns))
    lines = [
        (row.device, row.model, row.quant or "as it is", row.workload, *(text(row) for _, text in columns))
        for row in table.rows
    ]
    body = render_table("In the units of the MELT paper", headers, lines, fmt, numeric=range(len(_WHO), len(headers)))
    numbered = "\n".join(f"{number}. {note}" for number, note in enumerate(_notes(table), 1))
    return f"{body}\n{numbered}\n"


Column = tuple[str, Callable[[PaperRow], str]]


def _columns(table: PaperTable) -> Iterator[Column]:
    """Give every column that there may be: its header and what it says of a row."""
    for name, title in _MEANS:
        yield _of_mean(name, title)
    for kind, title, scale in (("perplexity", "perplexity", 1.0), ("accuracy", "accuracy %", 100.0)):
        for dataset in dict.fromkeys(dataset for row in table.rows for dataset in getattr(row, kind)):
            yield _of_quality(kind, f"{title}, {dataset}", dataset, scale)


def _of_mean(name: str, title: str) -> Column:
    return title, lambda row: _written(getattr(row, name))


def _of_quality(kind: str, title: str, dataset: str, scale: float) -> Column:
    return title, lambda row: _scaled(getattr(row, kind).get(dataset), scale)


def _scaled(value: float | None, scale: float) -> str:
    return "-" if value is None else f"{value * scale:.4g}"


def _written(value: Mean | None) -> str:
    if value is None:
        return "-"
    places = max(0, 2 - math.floor(math.log10(abs(value.mean)))) if value.mean else 0
    return f"{value.mean:.{places}f}" + ("" if value.std is None else f" ± {value.std:.{places}f}")


def _notes(table: PaperTable) -> Iterator[str]:
    sources = list(dict.fromkeys(source for row in table.rows for source in row.sources))
    for note in _NOTES:
        yield note.replace("{sources}", ", ".join(sources) or "no meter")
    if table.left_out:
        yield f"Left out, for they failed or are invalid: {table.left_out} of the runs (`melt runs` lists them)."


def _record(row: PaperRow) -> dict[str, Any]:
    record = asdict(row)
    for name, _ in _MEANS:
        value: Mean | None = getattr(row, name)
        record[name] = None if value is None else value.mean
        record[f"{name}_std"] = None if value is None else value.std
        record[f"{name}_n"] = None if value is None else value.n
    return record
