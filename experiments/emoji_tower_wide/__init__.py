"""The recipe of the small image tower that maao carries: `python -m experiments.emoji_tower_wide`."""
