"""The demonstration: two edges and three nodes on this machine, mail, two kills, and a ledger.

Runs everything as its users would, by the command line, and judges by the ledger, which imports nothing of ours.
"""
