"""What clients go on seeing of an account's home: UIDVALIDITYs, the format of POP3 UIDLs, whose MODSEQs.

Expands: code of version 2 writes rows whose new columns have their defaults, or keep what they have.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("account", sa.Column("shown", sa.Text, nullable=False, server_default=""))
    op.add_column("account", sa.Column("uidl", sa.Text, nullable=False, server_default=""))
    op.add_column("account", sa.Column("modseq_of", sa.Text, nullable=False, server_default=""))
    meta = sa.table("meta", sa.column("name"), sa.column("number"))
    op.execute(meta.update().where(meta.c.name == "schema").values(number=3))
