"""Kernex: ships versioned bundles to fleets of edge devices and verifies that they run."""

__version__ = "0.1.0"
