"""The `kernex` command line: HTTP with an API token, nothing of the server's own code."""

__version__ = "0.1.0"
