"""How good a result is, and how sure that is. Knows nothing of torch."""
