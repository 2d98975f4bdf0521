"""What Alembic runs: migrate over the connection that `melt.store.database` hands in, inside its transaction."""

from __future__ import annotations

from alembic import context

from melt.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
