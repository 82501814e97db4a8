"""Step 3, Label: structures, brushes, done slices."""
