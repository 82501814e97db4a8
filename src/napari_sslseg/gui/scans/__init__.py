"""Step 1, Scans: the project, its list of scans, the one that is shown."""
