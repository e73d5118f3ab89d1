"""Runs of every kind, killed at random moments: ``python -m tests.kill 200`` prints how many kills were survived."""
