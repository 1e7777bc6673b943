"""IMAP as the node speaks it to clients: one file per thing that a session does."""
