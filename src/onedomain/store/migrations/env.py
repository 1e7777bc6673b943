"""Alembic's entry: run the revisions on the connection that store/sql.py hands over, inside its transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
