"""Evaluations of model files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply this step."""
    op.create_table(
        "quality",
        sa.Column("quality_id", sa.Text, nullable=False),
        sa.Column("artifact_sha256", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("quant", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("dataset_sha256", sa.Text, nullable=False),
        sa.Column("n_ctx", sa.Integer),
        sa.Column("reference_sha256", sa.Text),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("engine_version", sa.Text, nullable=False),
        sa.Column("device_id", sa.Text, nullable=False),
        sa.Column("device_name", sa.Text, nullable=False),
        sa.Column("evaluated_utc_ns", sa.BigInteger, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("perplexity", sa.Double),
        sa.Column("perplexity_se", sa.Double),
        sa.Column("kl_mean", sa.Double),
        sa.Column("kl_p99", sa.Double),
        sa.Column("top1_agreement", sa.Double),
        sa.Column("accuracy", sa.Double),
        sa.Column("accuracy_low", sa.Double),
        sa.Column("accuracy_high", sa.Double),
        sa.Column("accuracy_norm", sa.Double),
        sa.Column("melt_version", sa.Text, nullable=False),
        sa.Column("document_json", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("quality_id", name="pk_quality"),
        sa.ForeignKeyConstraint(["artifact_sha256"], ["artifacts.sha256"], name="fk_quality_artifact_sha256_artifacts"),
    )
    op.create_index("ix_quality_artifact_sha256", "quality", ["artifact_sha256"])
