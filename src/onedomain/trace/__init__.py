"""What happened to a message, an account, a server: written down as it happens, kept, and asked.

Knows events as JSON lines in files. Does not know who writes them or what they lead to.
"""
