"""Experiments: one TOML a table, run cell by cell by `python -m experiments TABLE`, results in `experiments/results/`."""
