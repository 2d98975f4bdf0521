"""The store's schema through time: one chain of Alembic migrations, for SQLite and PostgreSQL alike."""
