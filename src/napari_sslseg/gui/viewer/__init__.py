"""The napari viewer around the panel: layers, windows, the live prediction."""
