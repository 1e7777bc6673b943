"""`make bench`: the same work against what OneDomain replaces and against OneDomain, side by side."""
