"""Sessions with a name, a number and what lies before them; reviews of runs; both in the view `figures`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply this step. Sessions of before have neither name nor number: nobody noted what lay between them."""
    for name, kind in (
        ("uid", sa.Text),
        ("number", sa.Integer),
        ("apart", sa.Text),
        ("began_utc_ns", sa.BigInteger),
        ("rested_s", sa.Double),
        ("temperature_c", sa.Double),
    ):
        op.add_column("sessions", sa.Column(name, kind, nullable=True))
    op.create_index("ix_sessions_uid", "sessions", ["uid"], unique=True)
    op.create_table(
        "reviews",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("figures_json", sa.Text, nullable=False),
        sa.Column("made_utc_ns", sa.BigInteger, nullable=False),
        sa.Column("melt_version", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "code", name="pk_reviews"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_reviews_run_id_runs"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_reviews_code", "reviews", ["code"])
    op.execute("DROP VIEW figures")
    op.execute(
        """
        CREATE VIEW figures AS
        SELECT r.run_id, r.sweep_id, r.session_id, s.number AS session, s.apart, r.cell_key, r.block, r.started_utc_ns,
               r.device_id, r.device_name, r.os_build, r.model, r.quant, r.bits_per_weight, r.engine, r.engine_revision,
               r.workload, r.threads, r.outcome, r.verdict, m.position, m.name AS metric, m.value, m.unit, m.repetition,
               m.note
        FROM runs AS r JOIN sessions AS s ON s.session_id = r.session_id JOIN metrics AS m ON m.run_id = r.run_id
        """
    )
