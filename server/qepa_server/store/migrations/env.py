"""Run migrations on the connection that the store passes in."""

from alembic import context

from qepa_server.store.schema import metadata

# SQLite can: a migration that is cut off leaves nothing behind.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
