"""The `kernex` command line: HTTP with an API token, nothing of the server's own code."""
