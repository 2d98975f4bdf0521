"""Model files of unknown size: of runs that another program measured."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply this step. SQLite cannot drop a NOT NULL; its own advice is to edit the schema, which no row depends on.

    https://www.sqlite.org/lang_altertable.html#making_other_kinds_of_table_schema_changes
    """
    if op.get_bind().dialect.name != "sqlite":
        op.alter_column("artifacts", "size_bytes", existing_type=sa.BigInteger, nullable=True)
        return
    version = op.get_bind().execute(sa.text("PRAGMA schema_version")).scalar_one()
    op.execute("PRAGMA writable_schema = ON")
    op.execute(
        "UPDATE sqlite_master SET sql = replace(sql, 'size_bytes BIGINT NOT NULL', 'size_bytes BIGINT')"
        " WHERE type = 'table' AND name = 'artifacts'"
    )
    op.execute(f"PRAGMA schema_version = {version + 1}")
    op.execute("PRAGMA writable_schema = OFF")
