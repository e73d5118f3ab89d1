"""Runs and comparisons as one HTML file that stands alone: nothing in it is fetched, and nothing in it runs."""
