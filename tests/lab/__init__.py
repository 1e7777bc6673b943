"""Real mail servers, databases and networks for the tests, each in a folder of its own. Imports nothing of ours."""
