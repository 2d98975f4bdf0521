"""Sessions as rows: the one a run belongs to, and what a sweep that goes on must know of those before."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, insert, select

from melt.records import Apart, RunStart, Session
from melt.store.schema import runs, sessions

_COLUMNS = tuple(field.name for field in fields(Session))


def ensure_session(connection: Connection, start: RunStart) -> int:
    """Return the key of the run's session; one that says of none is of a block of its sweep on a boot of its device."""
    row = _row(start)
    told = ("uid",) if start.session is not None else ("uid", "sweep_id", "device_id", "block", "boot_id")
    same = [sessions.c[name].is_not_distinct_from(row[name]) for name in told]
    known = connection.execute(select(sessions.c.session_id).where(*same)).scalar()
    if known is not None:
        return int(known)
    inserted = connection.execute(insert(sessions), row).inserted_primary_key
    return int(inserted[0]) if inserted else 0


def last_session(connection: Connection, sweep_id: str, device_id: str) -> Session | None:
    """Return the session with the highest number of a device in a sweep, None where none has one."""
    table = sessions.c
    query = select(*(table[name] for name in _COLUMNS)).where(
        table.sweep_id == sweep_id, table.device_id == device_id, table.number.is_not(None)
    )
    row = connection.execute(query.order_by(table.number.desc(), table.began_utc_ns.desc()).limit(1)).mappings().first()
    return None if row is None else Session(**{**row, "apart": Apart(row["apart"])})


def last_used_utc_ns(connection: Connection, device_id: str) -> int | None:
    """Return when the newest run on a device had ended, of those for which anything was started there."""
    table = runs.c
    query = select(table.ended_utc_ns).where(table.device_id == device_id, table.ended_utc_ns > table.started_utc_ns)
    return connection.execute(query.order_by(table.started_utc_ns.desc()).limit(1)).scalar()


def _row(start: RunStart) -> dict[str, Any]:
    session = start.session
    if session is not None:
        return {name: getattr(session, name) for name in _COLUMNS}
    return {
        **dict.fromkeys(_COLUMNS),
        "sweep_id": start.spec.sweep_id,
        "device_id": start.device.device_id,
        "block": start.spec.block,
        "boot_id": start.device.boot_id,
    }
