"""Links at run time: carrying out plans, keeping what is deleted or refused, who is due when.

Knows two ends of a link, a clock and a board by their ports. Does not decide: what a pass does is decision/link's.
"""
