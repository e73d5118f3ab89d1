"""Experiments: one TOML a table, run cell by cell by `python -m experiments TABLE.toml`, results in `experiments/results/`."""
