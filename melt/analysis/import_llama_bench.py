"""What llama-bench printed, as JSON, JSON lines, CSV or SQL, as entries to import. Pure.

The JSON has every repetition, CSV and SQL only their mean. Fields have come and gone since 2023: those that are lacking
are unknown, others are kept and not read (tools/llama-bench/llama-bench.cpp of llama.cpp).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from melt.analysis.figures import Figure
from melt.analysis.import_json import NotImportableError, finite, objects
from melt.analysis.imported import Entry
from melt.engines.llama_bench import LlamaBench
from melt.records import Workload

TOOL = "llama-bench"
COUNTS = ("n_prompt", "n_gen")
"""Without these two a row is none of llama-bench."""

_ROW = re.compile(r"INSERT INTO \w+ \((?P<names>[\w, ]+)\) VALUES \('(?P<values>.*)'\);\s*", re.DOTALL)
_LEVEL = re.compile(r"[-._ ](I?Q\d\w*|MXFP4\w*|BF16|F16|F32)$", re.IGNORECASE)
_TYPE = re.compile(r"\b(I?Q\d\w*|MXFP4|BF16|F16|F32)(?: - (Small|Medium|Large))?", re.IGNORECASE)
_TEXTS = ("build_commit", "cpu_info", "gpu_info", "backends", "model_filename", "model_type", "test_time", "cpu_mask")
_MEAN = "the mean of all repetitions: the file does not tell them one by one"
_SETTINGS = ("threads", "n_batch", "n_ubatch", "cache_type_k", "cache_type_v", "flash_attn", "n_gpu_layers", "mmap")


def entries(text: str) -> list[Entry]:
    """Read a text in any of the four forms. Raises NotImportableError with `line` or the sentence after it."""
    stripped = text.lstrip()
    if stripped.startswith(("[", "{")):
        rows = objects(text)
    elif "INSERT INTO" in text:
        rows = _sql(text)
    elif all(name in stripped.partition("\n")[0] for name in COUNTS):
        rows = _csv(text)
    else:
        raise NotImportableError("1: other lines stand before the results: keep llama-bench's log apart (2> log.txt)")
    return [_entry(line, row) for line, row in rows]


def _csv(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise NotImportableError(f"{reader.line_num}: this row has not as many fields as the header")
            yield reader.line_num, {name: _typed(name, value) for name, value in row.items()}
    except csv.Error as error:
        raise NotImportableError(f"{reader.line_num}: not CSV: {error}") from error


def _sql(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Read the rows that llama-bench prints; it quotes every value and escapes none, so nothing else can run them."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("INSERT"):
            continue
        row = _ROW.fullmatch(line)
        names = row["names"].split(", ") if row else []
        values = row["values"].split("', '") if row else []
        if not row or len(names) != len(values):
            raise NotImportableError(f"{number}: no row as `llama-bench -o sql` prints it")
        yield number, {name: _typed(name, value) for name, value in zip(names, values, strict=True)}


def _typed(name: str, value: str) -> Any:
    """Return the value that stands in CSV and SQL as text: a number where it is one, unless the field is text."""
    if name in _TEXTS:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _entry(line: int, row: Mapping[str, Any]) -> Entry:
    counts = [_count(row.get(name)) for name in COUNTS]
    if None in counts or not any(counts):
        raise NotImportableError(f"{line}: no result of llama-bench: n_prompt and n_gen say how many tokens were timed")
    n_prompt, n_gen = (count or 0 for count in counts)
    report = LlamaBench("").parse([json.dumps(row).encode()])
    used = dict(report.used)
    filename, kind = str(row.get("model_filename") or "unknown"), str(row.get("model_type") or "")
    model, quant = _named(filename, kind)
    cpu, gpu = (str(row[name]) if row.get(name) else None for name in ("cpu_info", "gpu_info"))
    size, n_params = finite(row.get("model_size")), finite(row.get("model_n_params"))
    samples, totals = _figures(row, n_prompt, n_gen)
    return Entry(
        told=row,
        line=line,
        tool_version=str(row["build_commit"]) if row.get("build_commit") else None,
        model=model,
        quant=quant,
        engine="llama.cpp",
        workload=Workload(n_prompt=n_prompt, n_gen=n_gen, n_depth=_count(row.get("n_depth")) or 0),
        device_name=gpu or cpu or "unknown",
        device={"soc": cpu, "accelerators": (gpu,) if gpu else ()},
        artifact={
            "format": "gguf",
            "path": filename,
            "architecture": kind.split()[0] if kind.split() else None,
            "n_params": int(n_params) if n_params else None,
            "weight_bytes": int(size) if size else None,
            "bits_per_weight": 8 * size / n_params if size and n_params else None,
        },
        settings={name: used[name] for name in _SETTINGS if name in used},
        used=used,
        started_utc_ns=utc_ns(row.get("test_time")),
        samples=samples,
        totals=totals,
    )


def _figures(
    row: Mapping[str, Any], n_prompt: int, n_gen: int
) -> tuple[dict[str, tuple[float, ...]], dict[str, Figure]]:
    """Return samples and totals. A test of both phases in one (`-pg`) tells how long both took, no rate of either."""
    samples_s = tuple(ns / 1e9 for ns in _all_positive(row.get("samples_ns")))
    if n_prompt and n_gen:
        mean_ns = finite(row.get("avg_ns"))
        total = {} if not mean_ns else {"e2e_s": Figure(mean_ns / 1e9, note=_MEAN, source=TOOL)}
        return ({"e2e_s": samples_s}, {}) if samples_s else ({}, total)
    name = "prefill_tps" if n_prompt else "decode_tps"
    rates = _all_positive(row.get("samples_ts")) or tuple((n_prompt or n_gen) / s for s in samples_s)
    if rates:
        return {name: rates}, {}
    mean, spread = finite(row.get("avg_ts")), finite(row.get("stddev_ts"))
    if mean is None:
        return {}, {name: Figure(None, note="the file does not tell it", source=TOOL)}
    return {}, {name: Figure(mean, note=_MEAN, source=TOOL, figures={} if spread is None else {"stddev": spread})}


def _named(filename: str, kind: str) -> tuple[str, str | None]:
    """Return model and level: of the file's name `tiny.Q4_K_M.gguf`, else of the type `llama 1B Q4_K - Medium`."""
    stem = (PureWindowsPath(filename) if "\\" in filename else PurePosixPath(filename)).name.removesuffix(".gguf")
    level = _LEVEL.search(stem)
    if level:
        return stem[: level.start()] or stem, level[1].lower()
    told = _TYPE.search(kind)
    return stem or "unknown", None if told is None else told[1].lower() + (f"_{told[2][0].lower()}" if told[2] else "")


def _count(value: object) -> int | None:
    number = finite(value)
    return int(number) if number is not None and number >= 0 and number == int(number) else None


def _all_positive(values: object) -> tuple[float, ...]:
    numbers = [finite(value) for value in values] if isinstance(values, list) else []
    kept = tuple(number for number in numbers if number is not None and number > 0)
    return kept if len(kept) == len(numbers) else ()


def utc_ns(text: object) -> int | None:
    """Read an ISO 8601 time, UTC where it does not say; None for what is none."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
