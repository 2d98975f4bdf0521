"""Evaluations of model files: kept by what they are of, how and where; joined with runs by the file's sha256."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from melt.codec import dumps, loads
from melt.errors import StoreError
from melt.records.quality import Quality
from melt.store.rows import ensure_artifact
from melt.store.schema import quality as table
from melt.store.store import Store

_BATCH = 500
"""Evaluations asked for in one query: databases limit the number of parameters."""

_FIGURES = (
    *("perplexity", "perplexity_se", "kl_mean", "kl_p99", "top1_agreement"),
    *("accuracy", "accuracy_low", "accuracy_high", "accuracy_norm"),
    *("cosine_mean", "cosine_min", "max_error"),
)


def keep_quality(store: Store, quality: Quality) -> None:
    """Make an evaluation part of the store, durable when this returns; one that is there stays. Raises StoreError."""
    with store.database.write() as connection:
        known = connection.execute(select(table.c.quality_id).where(table.c.quality_id == quality.quality_id)).first()
        if known is None:
            ensure_artifact(connection, quality.artifact)
            connection.execute(insert(table), _row(quality))


def find_qualities(store: Store, ids: Collection[str]) -> dict[str, Quality]:
    """Return those of the evaluations that the store has, by id. Raises StoreError."""
    found = {}
    ordered = sorted(ids)
    with store.database.read() as connection:
        for begin in range(0, len(ordered), _BATCH):
            query = select(table.c.document_json).where(table.c.quality_id.in_(ordered[begin : begin + _BATCH]))
            for text in connection.execute(query).scalars():
                quality = loads(Quality, text)
                found[quality.quality_id] = quality
    return found


def qualities_of(store: Store, artifact_sha256: str) -> list[Quality]:
    """Return all evaluations of a model file, oldest first. Raises StoreError."""
    query = select(table.c.document_json).where(table.c.artifact_sha256 == artifact_sha256)
    with store.database.read() as connection:
        texts = connection.execute(query.order_by(table.c.evaluated_utc_ns, table.c.quality_id)).scalars().all()
    return [loads(Quality, text) for text in texts]


def damaged_qualities(connection: Connection) -> Iterator[tuple[str, str]]:
    """Give the evaluations whose document is damaged or says something else than its columns, and what is wrong."""
    for row in connection.execute(select(table).order_by(table.c.quality_id)):
        try:
            told = _row(loads(Quality, row.document_json))
        except StoreError as error:
            yield row.quality_id, str(error)
            continue
        if not _alike(row, told):
            yield row.quality_id, "its document and its columns say different things"


def _alike(row: Row[Any], told: dict[str, Any]) -> bool:
    columns = row._mapping
    return all(columns[name] == value for name, value in told.items() if name != "document_json")


def _row(quality: Quality) -> dict[str, Any]:
    method, figures = quality.method, quality.text or quality.choices or quality.outputs
    return {
        "quality_id": quality.quality_id,
        "artifact_sha256": quality.artifact.sha256,
        "model": quality.artifact.name,
        "quant": quality.artifact.quant,
        "kind": method.kind,
        "dataset": method.dataset,
        "dataset_sha256": method.dataset_sha256,
        "n_ctx": method.n_ctx,
        "reference_sha256": method.reference_sha256,
        "engine": method.engine,
        "engine_version": method.engine_version,
        "device_id": quality.device.device_id,
        "device_name": quality.device.name,
        "evaluated_utc_ns": quality.evaluated_utc_ns,
        "n": getattr(figures, "n_tokens", getattr(figures, "n", 0)),
        **{name: getattr(figures, name, None) for name in _FIGURES},
        "melt_version": quality.melt_version,
        "document_json": dumps(quality),
    }
