"""Run migrations on the connection that the store passes in."""

from alembic import context

from qepa_server.store.schema import metadata

# The store's transaction is around all of it, CREATE TABLE included: what is cut off leaves nothing behind.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
