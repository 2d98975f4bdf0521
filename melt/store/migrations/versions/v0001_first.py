"""The first schema: runs with their documents, metrics, windows, reasons, files and tags."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Apply this step."""
    _things()
    _runs()
    _parts_of_runs()
    _views()


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null)


def _int(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=null)


def _big(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null)


def _float(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=True)


def _primary_key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=f"pk_{table}")


def _foreign_key(table: str, column: str, other: str, key: str | None = None) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{other}.{key or column}"], name=f"fk_{table}_{column}_{other}")


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))


def _things() -> None:
    op.create_table(
        "sweeps", _text("sweep_id"), _text("plan"), _big("started_utc_ns"), _primary_key("sweeps", "sweep_id")
    )
    op.create_table(
        "devices",
        _text("device_id"),
        _text("kind"),
        _text("name"),
        _text("os"),
        _text("os_build", null=True),
        _text("arch"),
        _text("soc", null=True),
        _big("memory_total_bytes", null=True),
        _big("seen_utc_ns"),
        _text("facts_json"),
        _primary_key("devices", "device_id"),
    )
    op.create_table(
        "artifacts",
        _text("sha256"),
        _text("name"),
        _text("quant", null=True),
        _text("format"),
        _big("size_bytes"),
        _text("architecture", null=True),
        _big("n_params", null=True),
        _float("bits_per_weight"),
        _text("artifact_json"),
        _primary_key("artifacts", "sha256"),
    )
    op.create_table(
        "sessions",
        sa.Column("session_id", _KEY, nullable=False),
        _text("sweep_id"),
        _text("device_id"),
        _int("block"),
        _text("boot_id", null=True),
        _primary_key("sessions", "session_id"),
        _foreign_key("sessions", "sweep_id", "sweeps"),
        _foreign_key("sessions", "device_id", "devices"),
    )
    _index("sessions", "sweep_id", "device_id", "block")


def _runs() -> None:
    op.create_table(
        "runs",
        _text("run_id"),
        _text("sweep_id"),
        _big("session_id"),
        _text("cell_key"),
        _text("plan"),
        _int("block"),
        _int("position"),
        _text("device_id"),
        _text("device_name"),
        _text("os_build", null=True),
        _text("model"),
        _text("quant", null=True),
        _text("artifact_sha256"),
        _float("bits_per_weight"),
        _text("engine"),
        _text("engine_revision", null=True),
        _text("workload"),
        _int("n_prompt"),
        _int("n_gen"),
        _int("n_depth"),
        _int("threads", null=True),
        _text("outcome"),
        _text("verdict"),
        _big("started_utc_ns"),
        _big("ended_utc_ns"),
        _text("melt_version"),
        _text("agent_version"),
        _int("format_version"),
        _text("content_sha256"),
        _text("start_json"),
        _text("stop_json"),
        _primary_key("runs", "run_id"),
        _foreign_key("runs", "sweep_id", "sweeps"),
        _foreign_key("runs", "session_id", "sessions"),
        _foreign_key("runs", "device_id", "devices"),
        _foreign_key("runs", "artifact_sha256", "artifacts", "sha256"),
    )
    _index("runs", "started_utc_ns")
    _index("runs", "sweep_id")
    _index("runs", "cell_key", "started_utc_ns")
    _index("runs", "device_id", "started_utc_ns")
    _index("runs", "model", "quant", "started_utc_ns")


def _part(table: str, key: sa.Column[Any], *columns: sa.Column[Any]) -> None:
    """Make a table whose rows lie together by run on disk."""
    op.create_table(
        table,
        _text("run_id"),
        key,
        *columns,
        _primary_key(table, "run_id", key.name),
        _foreign_key(table, "run_id", "runs"),
        sqlite_with_rowid=False,
    )


def _parts_of_runs() -> None:
    _part(
        "metrics",
        _int("position"),
        _text("name"),
        _float("value"),
        _text("unit"),
        _int("repetition", null=True),
        _text("source"),
        _text("note", null=True),
    )
    _index("metrics", "name", "run_id")
    _part(
        "windows",
        _int("position"),
        _text("phase"),
        _big("t0_ns"),
        _big("t1_ns"),
        _int("repetition", null=True),
        sa.Column("warmup", sa.Boolean, nullable=False),
        _int("n_tokens", null=True),
        _int("depth", null=True),
    )
    _part("reasons", _int("position"), _text("code"), _text("message"), _text("figures_json"))
    _index("reasons", "code")
    _part("traces", _text("collector"), _text("path"), _big("rows"), _int("columns"), _big("bytes"), _text("sha256"))
    _part("attachments", _text("name"), _text("path"), _big("bytes"), _text("sha256"))
    _part("tags", _text("tag"))
    _index("tags", "tag")


def _views() -> None:
    op.execute(
        """
        CREATE VIEW figures AS
        SELECT r.run_id, r.sweep_id, r.session_id, r.cell_key, r.block, r.started_utc_ns, r.device_id, r.device_name,
               r.os_build, r.model, r.quant, r.bits_per_weight, r.engine, r.engine_revision, r.workload, r.threads,
               r.outcome, r.verdict, m.position, m.name AS metric, m.value, m.unit, m.repetition, m.note
        FROM runs AS r JOIN metrics AS m ON m.run_id = r.run_id
        """
    )
