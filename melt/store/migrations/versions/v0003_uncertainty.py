"""Metrics with an uncertainty, and the figures behind it; the uncertainty in the view `figures`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply this step. Metrics of before have none: nobody worked it out."""
    op.add_column("metrics", sa.Column("uncertainty", sa.Double, nullable=True))
    op.add_column("metrics", sa.Column("figures_json", sa.Text, nullable=True))
    op.execute("DROP VIEW figures")
    op.execute(
        """
        CREATE VIEW figures AS
        SELECT r.run_id, r.sweep_id, r.session_id, s.number AS session, s.apart, r.cell_key, r.block, r.started_utc_ns,
               r.device_id, r.device_name, r.os_build, r.model, r.quant, r.bits_per_weight, r.engine, r.engine_revision,
               r.workload, r.threads, r.outcome, r.verdict, m.position, m.name AS metric, m.value, m.uncertainty,
               m.unit, m.repetition, m.source, m.note
        FROM runs AS r JOIN sessions AS s ON s.session_id = r.session_id JOIN metrics AS m ON m.run_id = r.run_id
        """
    )
