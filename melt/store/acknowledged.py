"""What people accepted of nights, kept beside the runs, which never change."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import delete, insert, select

from melt.records.acknowledgement import Acknowledgement
from melt.store.schema import acknowledgements as table
from melt.store.store import Store


def acknowledge(store: Store, accepted: Acknowledgement) -> None:
    """Keep an acknowledgement, durable when this returns; an earlier one of the same change goes. Raises StoreError."""
    with store.database.write() as connection:
        connection.execute(delete(table).where(table.c.change_id == accepted.change_id))
        connection.execute(insert(table), asdict(accepted))


def withdraw(store: Store, change_id: str) -> bool:
    """Forget an acknowledgement; return whether there was one. Raises StoreError."""
    with store.database.write() as connection:
        return connection.execute(delete(table).where(table.c.change_id == change_id)).rowcount > 0


def acknowledgements(store: Store) -> tuple[Acknowledgement, ...]:
    """Return all acknowledgements, oldest first. Raises StoreError."""
    with store.database.read() as connection:
        rows = connection.execute(select(table).order_by(table.c.made_utc_ns, table.c.change_id))
        return tuple(Acknowledgement(**row._mapping) for row in rows)
