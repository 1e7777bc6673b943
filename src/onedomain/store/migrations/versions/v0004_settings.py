"""What an edge says of its own file, so that others can tell a difference that would matter.

Expands: code of version 3 writes rows without it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("edge", sa.Column("settings", sa.Text, nullable=False, server_default=""))
    meta = sa.table("meta", sa.column("name"), sa.column("number"), sa.column("text"))
    op.execute(meta.update().where(meta.c.name == "schema").values(number=4))
