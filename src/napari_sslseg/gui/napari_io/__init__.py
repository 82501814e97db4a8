"""What napari calls by the manifest: readers, writers, sample data."""
