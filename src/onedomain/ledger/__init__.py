"""The test's own account of what was acknowledged, checked against the servers. Standard library and nothing else."""
