"""What is measured, and against whom. `python -m bench` (or `make bench`) runs all of it and writes `bench/results/*.json`."""
