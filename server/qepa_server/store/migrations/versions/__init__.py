"""Alembic migrations, one file each, numbered."""
