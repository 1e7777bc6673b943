"""The tables of the directory's database, the same on SQLite and PostgreSQL.

Knows columns. Does not know what rows mean (directory) nor how a database comes to have these tables (migrations). A
test compares the two.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, Table, Text, false

SCHEMA = 7
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
    Column("pending", Boolean, nullable=False, server_default=false()),
    Column("no_modseq", Boolean, nullable=False, server_default=false()),
    Column("shown", Text, nullable=False, server_default=""),  # of model.validities.Validities
    Column("uidl", Text, nullable=False, server_default=""),
    Column("modseq_of", Text, nullable=False, server_default=""),
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
    Column("lease_until", Float, nullable=False, server_default="0"),  # by the database's clock
    Column("seq", BigInteger, nullable=False, server_default="0"),     # the last change that all of it goes by
    Column("settings", Text, nullable=False, server_default=""),       # of decision.agreement; "" of older ones
)

# What may be held by one edge at a time. `token` grows whenever it changes hands.
lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", Float, nullable=False),  # by the database's clock
    Column("token", BigInteger, nullable=False),
)

# One-way links, as they were last saved.
link = Table(
    "link",
    metadata,
    Column("account", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("source", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),  # the home's, when it was saved
    Column("state", Text, nullable=False),        # JSON of model.replica.LinkState
    Column("saved", Float, nullable=False),       # seconds since 1970
    # When an operator let the deletions go on that a brake has stopped; 0: nothing is braked, or nobody did.
    Column("accepted", Float, nullable=False, server_default="0"),
)

# A replica that was made the primary. `settled` 0: its plan has not been carried out; `returned` 0: what only the old
# primary has was not brought back yet. Seconds since 1970.
promotion = Table(
    "promotion",
    metadata,
    Column("account", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("old", Text, nullable=False),
    Column("new", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("state", Text, nullable=False),   # JSON of the link as it was, "" if there was none
    Column("result", Text, nullable=False),  # JSON of model.replica.Promotion, "" until it is settled
    Column("at", Float, nullable=False),
    Column("settled", Float, nullable=False),
    Column("returned", Float, nullable=False),
    Column("renumbered", Integer, nullable=False, server_default="0"),  # folders
    Column("added", Integer, nullable=False, server_default="0"),       # messages that only the old primary had
    Column("aside", Integer, nullable=False, server_default="0"),       # set aside then
    Index("promotion_by_new", "new"),
    Index("promotion_by_old", "old"),
)

# An account on its way to another server; its last move stays until the next one. Seconds since 1970.
move = Table(
    "move",
    metadata,
    Column("account", Text, primary_key=True),
    Column("source", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("keep", Boolean, nullable=False),
    Column("cause", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("ended", Float, nullable=False),
    Column("forced", Float, nullable=False, server_default="0"),  # the `at` of the move that drops whatever differs
    Column("before", Text, nullable=False, server_default=""),    # JSON: its `at`, and the replicas when it began
    Index("move_by_stage", "stage"),
)

# How both copies compared before the last move of an account let go of the old one.
move_report = Table(
    "move_report",
    metadata,
    Column("account", Text, primary_key=True),
    Column("at", Float, nullable=False),       # the move's
    Column("differ", Integer, nullable=False),  # messages for which it would be a loss
    Column("report", Text, nullable=False),    # JSON of model.move.Report
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

# seq: the last change. barrier: the last change that an edge must go by to be granted a lease.
# schema: SCHEMA of the tables. least: the oldest SCHEMA whose code may still use them.
# id (in text): which database this is, so that another one in its place is noticed.
meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
)
