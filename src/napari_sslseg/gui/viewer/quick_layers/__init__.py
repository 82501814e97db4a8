"""Layers of napari without a pause: those that stay for the next scan, and the first ones.

What the layers contain and how they look does not belong here.
"""
