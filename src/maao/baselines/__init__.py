"""What one would use without us: baselines of others, each a file, to set beside runs of one's own in a table (`maao compare`)."""
