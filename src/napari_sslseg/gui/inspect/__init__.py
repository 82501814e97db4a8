"""Step 5, Inspect: predictions, scores, corrections, export."""
