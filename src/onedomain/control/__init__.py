"""The operator's verbs and the link they travel on.

Knows requests and answers; does not know how parts do what is asked.
"""
