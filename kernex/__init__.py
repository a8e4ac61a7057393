"""Kernex: ships versioned bundles to fleets of edge devices and knows that they run there."""

__version__ = "0.1.0"
