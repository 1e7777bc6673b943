"""The directory: accounts, aliases, server states, edges, the change log.

Expands from nothing.
"""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("primary_server", sa.Text, nullable=False),
        sa.Column("replicas", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("mailbox", sa.Text, nullable=False),
        sa.Column("password", sa.Text, nullable=False),
        sa.Column("forward_to", sa.Text, nullable=False),
        sa.Column("keep_copy", sa.Boolean, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
    )
    op.create_index("account_by_server", "account", ["primary_server"])
    op.create_index("account_by_unit", "account", ["unit"])
    op.create_table(
        "alias",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("targets", sa.Text, nullable=False),
    )
    op.create_table(
        "departed",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "server_state",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("draining", sa.Boolean, nullable=False),
    )
    op.create_table(
        "edge",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("certificate", sa.Text, nullable=False),
        sa.Column("seen", sa.Float, nullable=False),
    )
    op.create_table(
        "change",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    meta = op.create_table(
        "meta",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.bulk_insert(
        meta,
        [
            {"name": "seq", "number": 0, "text": ""},
            {"name": "schema", "number": 1, "text": ""},
            {"name": "least", "number": 1, "text": ""},
            {"name": "id", "number": 0, "text": uuid.uuid4().hex},
        ],
    )
