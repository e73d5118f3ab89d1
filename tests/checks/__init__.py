"""Checks in environments of their own, each a `make` target: what the last one printed stands in ``docs/checked/NAME.txt``."""
