"""What runs share, kept once; and the figures of whole runs in an index of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_OF_RUNS = "repetition IS NULL AND value IS NOT NULL"


def upgrade() -> None:
    """Apply this step."""
    op.create_table(
        "setups",
        sa.Column("setup_sha256", sa.Text, nullable=False),
        sa.Column("setup_json", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("setup_sha256", name="pk_setups"),
    )
    op.add_column("runs", sa.Column("setup_sha256", sa.Text, nullable=True))
    op.drop_index("ix_metrics_name_run_id", "metrics")
    op.create_index(
        "ix_metrics_of_runs",
        "metrics",
        ["name", "run_id", "repetition", "value", "uncertainty"],
        sqlite_where=sa.text(_OF_RUNS),
        postgresql_where=sa.text(_OF_RUNS),
    )
    if not op.get_context().as_sql:
        # Derived by the code of today, whatever that is: what it makes is what it reads.
        from melt.store.setups import fill

        fill(op.get_bind())
