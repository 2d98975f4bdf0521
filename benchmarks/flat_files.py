"""Runs as peers keep them: a folder each, with the documents as JSON, figures as JSON lines and traces as CSV."""

from __future__ import annotations

import csv
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from melt.codec import to_dict
from melt.traces import RunBundle

Json = dict[str, Any]


def write(root: Path, bundle: RunBundle) -> None:
    """Write a run, in place of one that was cut short. As peers do, nothing is synced."""
    folder = root / bundle.start.spec.run_id
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    documents = {"start": to_dict(bundle.start), "stop": to_dict(bundle.stop), "windows": to_dict(bundle.windows)}
    (folder / "metadata.json").write_text(json.dumps(documents))
    lines = (json.dumps(to_dict(metric)) for metric in bundle.metrics)
    (folder / "results.jsonl").write_text("\n".join(lines) + "\n")
    for trace in bundle.traces:
        with (folder / f"{trace.collector}.csv").open("w", newline="") as out:
            table = csv.writer(out)
            table.writerow(["t_ns", *trace.columns])
            columns = (_as_written(values) for values in trace.columns.values())
            table.writerows(zip(trace.t_ns.tolist(), *columns, strict=True))


def listing(root: Path) -> list[Json]:
    """Return what a list says of every run, newest first."""
    lines = []
    for start, stop, figures in _runs(root):
        spec = start["spec"]
        rates = {m["name"]: m["value"] for m in figures if m["repetition"] is None and m["unit"] == "tok/s"}
        told = {key: spec[key] for key in ("run_id", "model", "quant", "engine")}
        lines.append(
            told
            | {"started_utc_ns": start["started_utc_ns"], "device": start["device"]["name"]}
            | {key: rates.get(key) for key in ("prefill_tps", "decode_tps")}
            | {"outcome": stop["outcome"], "verdict": stop["verdict"], "reasons": [r["code"] for r in stop["reasons"]]}
        )
    return sorted(lines, key=lambda line: line["started_utc_ns"], reverse=True)


def compare(root: Path, metrics: Sequence[str]) -> dict[tuple[Any, ...], tuple[float, float, float]]:
    """Return quartiles of each figure over the sessions of each device, workload and level, as `melt compare` sees."""
    sessions: defaultdict[tuple[Any, ...], defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    wanted = frozenset(metrics)
    for start, stop, figures in _runs(root):
        if stop["outcome"] != "ok" or stop["verdict"] == "invalid":
            continue
        spec = start["spec"]
        cell = (start["device"]["device_id"], tuple(spec["workload"].items())[1:4], spec["quant"])
        session = (start["session"] or spec).get("uid", spec["run_id"])
        for m in figures:
            if m["name"] in wanted and m["repetition"] is None and m["value"] is not None:
                sessions[*cell, m["name"]][session].append(m["value"])
    medians = {key: [float(np.median(values)) for values in own.values()] for key, own in sessions.items()}
    found = {key: np.quantile(values, (0.25, 0.5, 0.75)).tolist() for key, values in medians.items()}
    return {key: (low, middle, high) for key, (low, middle, high) in found.items()}


def trace(root: Path, run_id: str, collector: str) -> dict[str, np.ndarray[Any, Any]]:
    """Read one trace by column."""
    path = root / run_id / f"{collector}.csv"
    with path.open() as text:
        names = text.readline().strip().split(",")
    return dict(zip(names, np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2).T, strict=True))


def _runs(root: Path) -> Iterator[tuple[Json, Json, list[Json]]]:
    for folder in root.iterdir():
        documents = json.loads((folder / "metadata.json").read_bytes())
        with (folder / "results.jsonl").open() as lines:
            yield documents["start"], documents["stop"], [json.loads(line) for line in lines]


def _as_written(values: np.ndarray[Any, Any]) -> list[float | int]:
    """Return whole numbers without a decimal point, as a user would write them; nan where nothing was measured."""
    whole = bool(np.all(values == np.rint(values)))
    written: list[float | int] = (values.astype(np.int64) if whole else values).tolist()
    return written
