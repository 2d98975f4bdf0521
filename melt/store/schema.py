"""The tables of the store. Times are UTC nanoseconds as int64: SQLite keeps no time zones.

Changes here need a migration beside them in `migrations/versions`, and what all of them make in
`migrations/newest.sql`; a test holds the three together. docs/store.md describes every column for those who query.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, ForeignKey, Index, Integer, MetaData, Table, Text, text

HEAD = "0008"
"""The newest migration: a database at this revision needs no Alembic to be opened."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_KEY = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only where the type is exactly INTEGER."""

sweeps = Table(
    "sweeps",
    metadata,
    Column("sweep_id", Text, primary_key=True),
    Column("plan", Text, nullable=False),
    Column("started_utc_ns", BigInteger, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("os", Text, nullable=False),
    Column("os_build", Text),
    Column("arch", Text, nullable=False),
    Column("soc", Text),
    Column("memory_total_bytes", BigInteger),
    Column("seen_utc_ns", BigInteger, nullable=False),
    Column("facts_json", Text, nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("quant", Text),
    Column("format", Text, nullable=False),
    Column("size_bytes", BigInteger),
    Column("architecture", Text),
    Column("n_params", BigInteger),
    Column("bits_per_weight", Double),
    Column("artifact_json", Text, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", _KEY, primary_key=True),
    Column("sweep_id", Text, ForeignKey("sweeps.sweep_id"), nullable=False),
    Column("device_id", Text, ForeignKey("devices.device_id"), nullable=False),
    Column("block", Integer, nullable=False),
    Column("boot_id", Text),
    Column("uid", Text),
    Column("number", Integer),
    Column("apart", Text),
    Column("began_utc_ns", BigInteger),
    Column("rested_s", Double),
    Column("temperature_c", Double),
    Index(None, "sweep_id", "device_id", "block"),
    Index(None, "uid", unique=True),
)

setups = Table(
    "setups",
    metadata,
    Column("setup_sha256", Text, primary_key=True),
    Column("setup_json", Text, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("sweep_id", Text, ForeignKey("sweeps.sweep_id"), nullable=False),
    Column("session_id", BigInteger, ForeignKey("sessions.session_id"), nullable=False),
    Column("cell_key", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("block", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("device_id", Text, ForeignKey("devices.device_id"), nullable=False),
    Column("device_name", Text, nullable=False),
    Column("os_build", Text),
    Column("model", Text, nullable=False),
    Column("quant", Text),
    Column("artifact_sha256", Text, ForeignKey("artifacts.sha256"), nullable=False),
    Column("bits_per_weight", Double),
    Column("engine", Text, nullable=False),
    Column("engine_revision", Text),
    Column("workload", Text, nullable=False),
    Column("n_prompt", Integer, nullable=False),
    Column("n_gen", Integer, nullable=False),
    Column("n_depth", Integer, nullable=False),
    Column("threads", Integer),
    Column("outcome", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("started_utc_ns", BigInteger, nullable=False),
    Column("ended_utc_ns", BigInteger, nullable=False),
    Column("melt_version", Text, nullable=False),
    Column("agent_version", Text, nullable=False),
    Column("format_version", Integer, nullable=False),
    Column("content_sha256", Text, nullable=False),
    Column("start_json", Text, nullable=False),
    Column("stop_json", Text, nullable=False),
    Column("setup_sha256", Text),
    Index(None, "started_utc_ns"),
    Index(None, "sweep_id"),
    Index(None, "cell_key", "started_utc_ns"),
    Index(None, "device_id", "started_utc_ns"),
    Index(None, "model", "quant", "started_utc_ns"),
)


def _of_run() -> Column[str]:
    return Column("run_id", Text, ForeignKey("runs.run_id"), primary_key=True)


def _position() -> Column[int]:
    return Column("position", Integer, primary_key=True, autoincrement=False)


metrics = Table(
    "metrics",
    metadata,
    _of_run(),
    _position(),
    Column("name", Text, nullable=False),
    Column("value", Double),
    Column("unit", Text, nullable=False),
    Column("repetition", Integer),
    Column("source", Text, nullable=False),
    Column("note", Text),
    Column("uncertainty", Double),
    Column("figures_json", Text),
    # All that a comparison asks of runs, in one stretch: whole runs' figures by name. `repetition`, which it holds as
    # NULL only, is in it because SQLite looks it up in the table otherwise.
    Index(
        "ix_metrics_of_runs",
        *("name", "run_id", "repetition", "value", "uncertainty"),
        sqlite_where=text("repetition IS NULL AND value IS NOT NULL"),
        postgresql_where=text("repetition IS NULL AND value IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

windows = Table(
    "windows",
    metadata,
    _of_run(),
    _position(),
    Column("phase", Text, nullable=False),
    Column("t0_ns", BigInteger, nullable=False),
    Column("t1_ns", BigInteger, nullable=False),
    Column("repetition", Integer),
    Column("warmup", Boolean, nullable=False),
    Column("n_tokens", Integer),
    Column("depth", Integer),
    sqlite_with_rowid=False,
)

reasons = Table(
    "reasons",
    metadata,
    _of_run(),
    _position(),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("figures_json", Text, nullable=False),
    Index(None, "code"),
    sqlite_with_rowid=False,
)

reviews = Table(
    "reviews",
    metadata,
    _of_run(),
    Column("code", Text, primary_key=True),
    Column("message", Text, nullable=False),
    Column("figures_json", Text, nullable=False),
    Column("made_utc_ns", BigInteger, nullable=False),
    Column("melt_version", Text, nullable=False),
    Index(None, "code"),
    sqlite_with_rowid=False,
)

traces = Table(
    "traces",
    metadata,
    _of_run(),
    Column("collector", Text, primary_key=True),
    Column("path", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("columns", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    sqlite_with_rowid=False,
)

attachments = Table(
    "attachments",
    metadata,
    _of_run(),
    Column("name", Text, primary_key=True),
    Column("path", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    sqlite_with_rowid=False,
)

quality = Table(
    "quality",
    metadata,
    Column("quality_id", Text, primary_key=True),
    Column("artifact_sha256", Text, ForeignKey("artifacts.sha256"), nullable=False),
    Column("model", Text, nullable=False),
    Column("quant", Text),
    Column("kind", Text, nullable=False),
    Column("dataset", Text, nullable=False),
    Column("dataset_sha256", Text, nullable=False),
    Column("n_ctx", Integer),
    Column("reference_sha256", Text),
    Column("engine", Text, nullable=False),
    Column("engine_version", Text, nullable=False),
    Column("device_id", Text, nullable=False),
    Column("device_name", Text, nullable=False),
    Column("evaluated_utc_ns", BigInteger, nullable=False),
    Column("n", Integer, nullable=False),
    Column("perplexity", Double),
    Column("perplexity_se", Double),
    Column("kl_mean", Double),
    Column("kl_p99", Double),
    Column("top1_agreement", Double),
    Column("accuracy", Double),
    Column("accuracy_low", Double),
    Column("accuracy_high", Double),
    Column("accuracy_norm", Double),
    Column("melt_version", Text, nullable=False),
    Column("document_json", Text, nullable=False),
    Column("cosine_mean", Double),
    Column("cosine_min", Double),
    Column("max_error", Double),
    Index(None, "artifact_sha256"),
)

acknowledgements = Table(
    "acknowledgements",
    metadata,
    Column("change_id", Text, primary_key=True),
    Column("device_id", Text, nullable=False),
    Column("series_id", Text),
    Column("metric", Text),
    Column("sweep_id", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("because", Text, nullable=False),
    Column("made_utc_ns", BigInteger, nullable=False),
    Column("melt_version", Text, nullable=False),
)

tags = Table(
    "tags",
    metadata,
    _of_run(),
    Column("tag", Text, primary_key=True),
    Index(None, "tag"),
    sqlite_with_rowid=False,
)
