"""A bundle as rows of the tables, and back. The two documents are kept whole; the columns are for asking."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, Table, insert, select, update

from melt.codec import dumps, loads, to_dict
from melt.errors import StoreError
from melt.plan.expand import cell_key
from melt.records import Artifact, Metric, Reason, RunStart, RunStop, Window
from melt.store import schema
from melt.store.reviews import reviewed, row_of
from melt.store.sessions import ensure_session
from melt.store.setups import ensure_setup
from melt.traces import RunBundle

Values = dict[str, Any]


def document(record: RunStart | RunStop) -> str:
    """Write a document as JSON. Raises StoreError when a number in it is not finite."""
    try:
        return dumps(record)
    except ValueError as error:
        raise StoreError(
            f"a number in a {type(record).__name__} is not finite; what was not measured is null"
        ) from error


def content_digest(bundle: RunBundle) -> str:
    """Return the sha256 of everything a bundle says, however it is stored. The raw journal is not part of it."""
    digest = hashlib.sha256()
    parts = (_lines(bundle.windows), _lines(_stored(bundle.metrics)))
    for text in (document(bundle.start), document(bundle.stop), *parts):
        digest.update(text.encode() + b"\0")
    for trace in bundle.traces:
        digest.update(f"{trace.collector} {list(trace.columns)}\0".encode())
        for column in (trace.t_ns, *trace.columns.values()):
            digest.update(np.ascontiguousarray(column).data if column.size else b"")
    for name, text in sorted(bundle.attachments.items()):
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()


def insert_run(connection: Connection, bundle: RunBundle, digest: str) -> None:
    """Insert a run with everything but its files."""
    start, run_id = bundle.start, bundle.start.spec.run_id
    ensure_artifact(connection, start.artifact)
    _insert_or_update(connection, schema.devices, "device_id", _device_row(start))
    _ensure_sweep(connection, start)
    session_id = ensure_session(connection, start)
    row = _run_row(bundle, session_id, digest) | {"setup_sha256": ensure_setup(connection, start, bundle.stop)}
    connection.execute(insert(schema.runs), row)
    insert_rows(connection, schema.metrics, run_id, map(_metric_row, _stored(bundle.metrics)))
    insert_rows(connection, schema.windows, run_id, map(to_dict, bundle.windows))
    insert_rows(connection, schema.reasons, run_id, map(row_of, bundle.stop.reasons))


def ensure_artifact(connection: Connection, artifact: Artifact) -> None:
    """Have a model file among the artifacts, as it was last seen."""
    _insert_or_update(connection, schema.artifacts, "sha256", _artifact_row(artifact))


def insert_rows(connection: Connection, table: Table, run_id: str, rows: Iterable[Values]) -> None:
    """Insert the parts of a run in their order."""
    numbered = [{"run_id": run_id, "position": i, **row} for i, row in enumerate(rows)]
    if numbered:
        connection.execute(insert(table), numbered)


def metric_of(row: Row[Any]) -> Metric:
    """Rebuild a metric from its row."""
    return Metric(
        name=row.name,
        value=row.value,
        unit=row.unit,
        repetition=row.repetition,
        source=row.source,
        note=row.note,
        uncertainty=row.uncertainty,
        figures=json.loads(row.figures_json) if row.figures_json else {},
    )


def window_of(row: Row[Any]) -> Window:
    """Rebuild a window from its row."""
    return Window(
        phase=row.phase,
        t0_ns=row.t0_ns,
        t1_ns=row.t1_ns,
        repetition=row.repetition,
        warmup=bool(row.warmup),
        n_tokens=row.n_tokens,
        depth=row.depth,
    )


def bundle_of(
    start_json: str,
    stop_json: str,
    windows: Iterable[Row[Any]],
    metrics: Iterable[Row[Any]],
    doubts: Iterable[Reason] = (),
) -> RunBundle:
    """Rebuild a bundle, without its traces and files; `doubts` are those of reviews. Raises StoreError."""
    start = loads(RunStart, start_json)
    return RunBundle(
        start=start,
        stop=reviewed(loads(RunStop, stop_json), doubts, start.spec.thresholds),
        windows=tuple(map(window_of, windows)),
        metrics=tuple(map(metric_of, metrics)),
    )


def _stored(metrics: Iterable[Metric]) -> list[Metric]:
    """Spell what numpy calls NaN as the store does: null, with a note."""
    return [
        m
        if m.value is None or math.isfinite(m.value)
        else Metric(
            name=m.name, value=None, unit=m.unit, repetition=m.repetition, source=m.source, note=m.note or "not finite"
        )
        for m in metrics
    ]


def _metric_row(metric: Metric) -> Values:
    row: Values = to_dict(metric)
    figures = row.pop("figures")
    return {**row, "figures_json": json.dumps(figures, sort_keys=True, allow_nan=False) if figures else None}


def _lines(records: Iterable[Window | Metric]) -> str:
    return "\n".join(map(dumps, records))


def _insert_or_update(connection: Connection, table: Table, key: str, row: Values) -> None:
    column = table.c[key]
    known = connection.execute(select(column).where(column == row[key])).first()
    if known is None:
        connection.execute(insert(table), row)
    else:
        # Without the key itself: setting it, even to what it is, makes the database look for rows that refer to it.
        others = {name: value for name, value in row.items() if name != key}
        connection.execute(update(table).where(column == row[key]), others)


def _artifact_row(artifact: Artifact) -> Values:
    return {
        "sha256": artifact.sha256,
        "name": artifact.name,
        "quant": artifact.quant,
        "format": artifact.format,
        "size_bytes": artifact.size_bytes,
        "architecture": artifact.architecture,
        "n_params": artifact.n_params,
        "bits_per_weight": artifact.bits_per_weight,
        "artifact_json": dumps(artifact),
    }


def _device_row(start: RunStart) -> Values:
    device = start.device
    return {
        "device_id": device.device_id,
        "kind": device.kind,
        "name": device.name,
        "os": device.os,
        "os_build": device.os_build,
        "arch": device.arch,
        "soc": device.soc,
        "memory_total_bytes": device.memory_total_bytes,
        "seen_utc_ns": start.started_utc_ns,
        "facts_json": dumps(device),
    }


def _ensure_sweep(connection: Connection, start: RunStart) -> None:
    table, sweep_id = schema.sweeps, start.spec.sweep_id
    if connection.execute(select(table.c.sweep_id).where(table.c.sweep_id == sweep_id)).first() is None:
        row = {"sweep_id": sweep_id, "plan": start.spec.plan, "started_utc_ns": start.started_utc_ns}
        connection.execute(insert(table), row)


def _run_row(bundle: RunBundle, session_id: int, digest: str) -> Values:
    start, stop, spec = bundle.start, bundle.stop, bundle.start.spec
    used_threads = stop.used.get("threads")
    revision = stop.used.get("engine_revision")
    return {
        "run_id": spec.run_id,
        "sweep_id": spec.sweep_id,
        "session_id": session_id,
        "cell_key": cell_key(spec),
        "plan": spec.plan,
        "block": spec.block,
        "position": spec.position,
        "device_id": start.device.device_id,
        "device_name": start.device.name,
        "os_build": start.device.os_build,
        "model": spec.model,
        "quant": spec.quant,
        "artifact_sha256": start.artifact.sha256,
        "bits_per_weight": start.artifact.bits_per_weight,
        "engine": spec.engine,
        "engine_revision": None if revision is None else str(revision),
        "workload": spec.workload.name,
        "n_prompt": spec.workload.n_prompt,
        "n_gen": spec.workload.n_gen,
        "n_depth": spec.workload.n_depth,
        "threads": used_threads if isinstance(used_threads, int) else spec.settings.threads,
        "outcome": stop.outcome.value,
        "verdict": stop.verdict.value,
        "started_utc_ns": start.started_utc_ns,
        "ended_utc_ns": stop.ended_utc_ns,
        "melt_version": start.melt_version,
        "agent_version": start.agent_version,
        "format_version": start.version,
        "content_sha256": digest,
        "start_json": document(start),
        "stop_json": document(stop),
    }
