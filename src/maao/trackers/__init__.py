"""Trackers: where the figures of a run go beside its folder. `options.py` has their settings, the other files one tracker each."""
