"""A one-way link between two servers: what it must do next. See docs/replication.md.

A plan is a generator: it yields one action, is sent that action's answer, and goes on. Whoever drives it may drop it
at any moment, for a lost connection as for a crash: the next plan starts from what was saved.
"""
