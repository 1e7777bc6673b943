"""How both copies compared before a move let go of the old one, and what an operator has let through a brake.

Expands: code of version 5 writes rows without it. `forced` is the `at` of the move that may drop whatever differs, as
that code begins another one over the same row.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("move", sa.Column("forced", sa.Float, nullable=False, server_default="0"))
    op.add_column("link", sa.Column("accepted", sa.Float, nullable=False, server_default="0"))
    op.create_table(
        "move_report",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("differ", sa.Integer, nullable=False),
        sa.Column("report", sa.Text, nullable=False),
    )
    meta = sa.table("meta", sa.column("name"), sa.column("number"))
    op.execute(meta.update().where(meta.c.name == "schema").values(number=6))
