"""One folder a run: what is stored is all there is. Knows rounds and calls, nothing of what they mean."""
