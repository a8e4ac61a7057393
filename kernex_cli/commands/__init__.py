"""The commands, one module for each subject. Each module adds its parsers in `add_to`."""
