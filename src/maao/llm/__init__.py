"""Chat models: what is asked, what comes back, and models that wrap models. Knows nothing of optimization."""
