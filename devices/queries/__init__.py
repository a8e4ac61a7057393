"""Queries over devices: what the fields mean, in SQL and in memory.

    text ── foundation.queries ──► tree ── bind ──► condition ──► SQL, or `matches(device)`

`registry` has the one table of fields: those of `fields`, and those of the apps above. `conditions` binds a tree to it.
A property test says that both back ends agree. Every condition is either true or false, never unknown: a device without
an attribute does not match `attr.x = 1`, and matches `attr.x != 1` and `not attr.x = 1`.
"""
