"""The tables that the code uses are those that the migrations make, on both databases."""

from __future__ import annotations

import io
from importlib import import_module
from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine

import melt.store.migrations
from melt.store import schema
from melt.store.database import NEWEST, create_tables, migrate
from melt.store.listing import FIGURE_COLUMNS
from melt.store.store import Store


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(melt.store.migrations.__file__).parent))


def _statements(connection: Connection) -> str:
    """What makes such a database of an empty file."""
    # What has no statement, or the name of a table of SQLite's own, is made by the other statements.
    kept = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%' ORDER BY rowid"
    revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    statements = [*connection.exec_driver_sql(kept).scalars(), f"INSERT INTO alembic_version VALUES ('{revision}')"]
    return ";\n".join(statements) + "\n"


def test_a_new_store_is_what_the_migrations_make_of_an_empty_file(tmp_path: Path) -> None:
    with create_engine("sqlite://").begin() as connection:
        migrate(connection)
        migrated = _statements(connection)
    with create_engine("sqlite://").begin() as connection:
        create_tables(connection)
        made = _statements(connection)
    (tmp_path / NEWEST.name).write_text(migrated, encoding="utf-8")
    assert made == migrated, f"copy {tmp_path / NEWEST.name} over {NEWEST}"


def test_migrations_make_the_tables(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata  # it takes long to import: not while tests are collected

    with Store.open(tmp_path) as store, store.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
        plain = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%WITHOUT ROWID%'"
        clustered = set(connection.exec_driver_sql(plain).scalars())
        assert clustered == {
            t.name for t in schema.metadata.tables.values() if not t.kwargs.get("sqlite_with_rowid", True)
        }
        assert tuple(connection.exec_driver_sql("SELECT * FROM figures").keys()) == FIGURE_COLUMNS


def test_one_chain_that_ends_where_the_code_says() -> None:
    assert _scripts().get_heads() == [schema.HEAD]
    assert len(_scripts().get_bases()) == 1
    revisions = [script.revision for script in _scripts().walk_revisions()]
    assert revisions == sorted(revisions, reverse=True), "revisions are compared as text to know newer from older"


def test_the_chain_is_postgresql_too() -> None:
    out = io.StringIO()
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "output_buffer": out})
    with Operations.context(context):
        for script in reversed(list(_scripts().walk_revisions())):
            name = Path(script.path).stem
            import_module(f"melt.store.migrations.versions.{name}").upgrade()
    sql = out.getvalue()
    assert "session_id BIGSERIAL NOT NULL" in sql
    assert "started_utc_ns BIGINT NOT NULL" in sql
    assert "value DOUBLE PRECISION" in sql
    assert "CREATE VIEW figures" in sql
