"""Publish a run: its files first, durable and in place, then its records in one transaction.

A reader sees all of a run or nothing of it. A writer that dies leaves at most a folder that no record names, which the
next publication of that run replaces and `melt store gc` removes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import zstandard
from sqlalchemy import insert, select

from melt.errors import StoreError
from melt.store import schema
from melt.store.database import Database
from melt.store.files import checked_name, new_locked_folder, store_error, sync_contents, sync_folder
from melt.store.layout import Layout
from melt.store.parquet import encode_trace
from melt.store.rows import content_digest, insert_run
from melt.traces import RunBundle

JOURNAL = "journal"
_ZSTD_LEVEL = 3
_CHUNK_BYTES = 1 << 20


@dataclass
class _Files:
    """A run's files on their way: rows for the two tables that name them."""

    folder: Path
    final: str
    traces: list[dict[str, Any]] = field(default_factory=list)
    attachments: list[dict[str, Any]] = field(default_factory=list)


def publish(database: Database, layout: Layout, bundle: RunBundle) -> None:
    """Make a run part of the store, durably. The same run again changes nothing. Raises StoreError."""
    run_id = checked_name(bundle.start.spec.run_id, "run")
    if bundle.stop.run_id != run_id:
        raise StoreError(f"run {run_id} cannot be published: its RunStop is of run {bundle.stop.run_id}")
    digest = content_digest(bundle)
    if _is_published(database, run_id, digest):
        return
    with _written(layout, run_id, bundle) as files, database.write() as connection:
        # Under the write lock: whoever else publishes this run, or collects garbage, is done or waits.
        if _known_digest(connection, run_id, digest):
            return
        _move_into_place(files.folder, layout.run_folder(run_id))
        insert_run(connection, bundle, digest)
        for table, rows in ((schema.traces, files.traces), (schema.attachments, files.attachments)):
            if rows:
                connection.execute(insert(table), [{"run_id": run_id, **row} for row in rows])


def _is_published(database: Database, run_id: str, digest: str) -> bool:
    with database.read() as connection:
        return _known_digest(connection, run_id, digest)


def _known_digest(connection: Any, run_id: str, digest: str) -> bool:
    """Whether the run is there with this content. Raises StoreError when it is there with another one."""
    query = select(schema.runs.c.content_sha256).where(schema.runs.c.run_id == run_id)
    known = connection.execute(query).scalar()
    if known is not None and known != digest:
        raise StoreError(f"run {run_id} is in the store already, with another content; a published run never changes")
    return known is not None


@contextmanager
def _written(layout: Layout, run_id: str, bundle: RunBundle) -> Iterator[_Files]:
    """Write a run's files, durably, into a hidden folder that is removed unless it was moved away."""
    try:
        folder, lock = new_locked_folder(layout.traces, run_id)
    except OSError as error:
        raise store_error("write to", layout.traces, error) from error
    try:
        files = _Files(folder, f"{layout.traces.name}/{run_id}")
        try:
            _write_all(files, bundle)
        except OSError as error:
            raise store_error("write to", layout.traces, error) from error
        yield files
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _write_all(files: _Files, bundle: RunBundle) -> None:
    for trace in bundle.traces:
        data = memoryview(encode_trace(trace))
        name = f"{quote(trace.collector, safe='')}.parquet"
        (files.folder / name).write_bytes(data)
        files.traces.append(
            {
                "collector": trace.collector,
                "path": f"{files.final}/{name}",
                "rows": len(trace.t_ns),
                "columns": len(trace.columns),
                "bytes": data.nbytes,
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )
    for attachment, text in bundle.attachments.items():
        data = memoryview(zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(text.encode()))
        name = f"{quote(attachment, safe='')}.zst"
        (files.folder / name).write_bytes(data)
        _attach(files, attachment, name, data.nbytes, hashlib.sha256(data).hexdigest())
    if bundle.journal is not None:
        name = f"{JOURNAL}.zst"
        _attach(files, JOURNAL, name, *_compress(bundle.journal, files.folder / name))
    sync_contents(files.folder)


def _attach(files: _Files, attachment: str, name: str, size_bytes: int, sha256: str) -> None:
    row = {"name": attachment, "path": f"{files.final}/{name}", "bytes": size_bytes, "sha256": sha256}
    files.attachments.append(row)


def _compress(source: Path, target: Path) -> tuple[int, str]:
    """Compress a file of any length; return the result's length and sha256."""
    digest, length = hashlib.sha256(), 0
    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
    with source.open("rb") as raw, target.open("wb") as out:
        for chunk in compressor.read_to_iter(raw, read_size=_CHUNK_BYTES):
            digest.update(chunk)
            length += out.write(chunk)
    return length, digest.hexdigest()


def _move_into_place(folder: Path, final: Path) -> None:
    try:
        if final.exists():
            # No record names it, or we would not be here: a publisher died between its files and its records.
            shutil.rmtree(final)
        folder.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        raise store_error("write to", final, error) from error
