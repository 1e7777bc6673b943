"""How a database gets the tables of store/schema.py: one Alembic revision per step, run by store/sql.py.

Edges of two versions run side by side, so a step expands (adds what old code does not miss) and a later release
contracts; each step writes meta's `schema`, and a contracting one `least`.
"""
