"""The other two planes beside the picture, and the point of the scan that all planes go through.

Not here: the plane in which slices are labelled, which the project has (``gui/viewer/scene.py``).
"""
