"""The Kernex agent: keeps one edge device in step with its control plane, and safe when it cannot."""

__version__ = "0.1.0"
