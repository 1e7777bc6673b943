"""The drill: servers are killed, stopped and cut off under load, and an independent ledger counts what became of it."""
