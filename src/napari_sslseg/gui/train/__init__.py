"""Step 4, Train: start, settings, curves, scores."""
