"""How dates are written: the same for everyone, in order of their size."""
