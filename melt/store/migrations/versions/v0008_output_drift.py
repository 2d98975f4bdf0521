"""How far the outputs of single-shot models drift from the reference's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Apply this step."""
    for name in ("cosine_mean", "cosine_min", "max_error"):
        op.add_column("quality", sa.Column(name, sa.Double, nullable=True))
