"""Arrays of samples, in memory or in files on disk."""
