"""Run migrations on the connection that the store passes in."""

from alembic import context

from qepa_server.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
