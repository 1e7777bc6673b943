"""Replication: link states, leases, promotions, moves; what a promotion needs to know of accounts and edges.

Expands: code of version 1 does not see the new tables, and writes rows whose new columns have their defaults.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("account", sa.Column("pending", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("account", sa.Column("no_modseq", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("edge", sa.Column("lease_until", sa.Float, nullable=False, server_default="0"))
    op.add_column("edge", sa.Column("seq", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "lease",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "link",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("target", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("saved", sa.Float, nullable=False),
    )
    op.create_table(
        "promotion",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("old", sa.Text, nullable=False),
        sa.Column("new", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("settled", sa.Float, nullable=False),
        sa.Column("returned", sa.Float, nullable=False),
    )
    op.create_index("promotion_by_new", "promotion", ["new"])
    op.create_index("promotion_by_old", "promotion", ["old"])
    op.create_table(
        "move",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("keep", sa.Boolean, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("ended", sa.Float, nullable=False),
    )
    op.create_index("move_by_stage", "move", ["stage"])
    meta = sa.table("meta", sa.column("name"), sa.column("number"), sa.column("text"))
    op.bulk_insert(meta, [{"name": "barrier", "number": 0, "text": ""}])
    op.execute(meta.update().where(meta.c.name == "schema").values(number=2))
