"""The test's own account of what was acknowledged, checked against the servers. Standard library only, nothing of ours."""
