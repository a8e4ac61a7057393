"""The `kernex` command line. It talks to the control plane over HTTP and imports none of its code."""

__version__ = "0.1.0"
