"""The commands, a module a subject. Each adds its parsers with `add_to`."""
