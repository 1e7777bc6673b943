"""The tables of the directory's database, the same on SQLite and PostgreSQL.

Knows columns. Does not know what rows mean (directory) nor how a database comes to have these tables (migrations). A
test compares the two.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, MetaData, Table, Text

SCHEMA = 1
"""The version of these tables that this code writes and expects; meta's row `schema` has the database's."""

metadata = MetaData()

account = Table(
    "account",
    metadata,
    Column("address", Text, primary_key=True),
    Column("unit", Text, nullable=False),
    Column("primary_server", Text, nullable=False),
    Column("replicas", Text, nullable=False),  # a JSON list
    Column("epoch", BigInteger, nullable=False),
    Column("mailbox", Text, nullable=False),
    Column("password", Text, nullable=False),
    Column("forward_to", Text, nullable=False),  # a JSON list
    Column("keep_copy", Boolean, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Index("account_by_server", "primary_server"),
    Index("account_by_unit", "unit"),
)

alias = Table(
    "alias",
    metadata,
    Column("address", Text, primary_key=True),
    Column("targets", Text, nullable=False),  # a JSON list
)

# The last epoch of accounts that were removed: one that comes back under the same address goes on from there.
departed = Table(
    "departed",
    metadata,
    Column("address", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
)

server_state = Table(
    "server_state",
    metadata,
    Column("name", Text, primary_key=True),
    Column("draining", Boolean, nullable=False),
)

edge = Table(
    "edge",
    metadata,
    Column("name", Text, primary_key=True),
    Column("address", Text, nullable=False),
    Column("certificate", Text, nullable=False),  # PEM
    Column("seen", Float, nullable=False),        # seconds since 1970
)

# What changed, in the order of commits: `seq` comes from meta's row `seq`, which a writer holds until it commits.
change = Table(
    "change",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),  # account, alias or server
    Column("key", Text, nullable=False),
    Column("at", Float, nullable=False),
)

# seq: the last change. schema: SCHEMA of the tables. least: the oldest SCHEMA whose code may still use them.
# id (in text): which database this is, so that another one in its place is noticed.
meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
)
