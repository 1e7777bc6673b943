"""What became of an account at a promotion, for people: folders under a new UIDVALIDITY, what its old primary brought.

Expands: code of version 4 writes rows without it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("renumbered", "added", "aside"):
        op.add_column("promotion", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    meta = sa.table("meta", sa.column("name"), sa.column("number"))
    op.execute(meta.update().where(meta.c.name == "schema").values(number=5))
