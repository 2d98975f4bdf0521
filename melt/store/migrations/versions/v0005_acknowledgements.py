"""What people accepted of nights: other levels, other conditions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Apply this step."""
    op.create_table(
        "acknowledgements",
        sa.Column("change_id", sa.Text, nullable=False),
        sa.Column("device_id", sa.Text, nullable=False),
        sa.Column("series_id", sa.Text),
        sa.Column("metric", sa.Text),
        sa.Column("sweep_id", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("because", sa.Text, nullable=False),
        sa.Column("made_utc_ns", sa.BigInteger, nullable=False),
        sa.Column("melt_version", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("change_id", name="pk_acknowledgements"),
    )
