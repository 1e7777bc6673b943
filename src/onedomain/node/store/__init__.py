"""What a node keeps: rows in SQLite, bodies in append-only segments, mailbox indexes in memory."""
