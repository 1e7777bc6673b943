"""Which replicas an account had when its move began: a move that is cancelled gives them back.

Expands: code of version 6 writes rows without it, and begins other moves over the same row, so the `at` of the move
that it belongs to stands in it, too.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("move", sa.Column("before", sa.Text, nullable=False, server_default=""))
    meta = sa.table("meta", sa.column("name"), sa.column("number"))
    op.execute(meta.update().where(meta.c.name == "schema").values(number=7))
