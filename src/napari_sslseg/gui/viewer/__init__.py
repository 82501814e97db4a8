"""The napari viewer: layers of the current scan, its plane and slice, window and level.

Widgets of the steps stay outside.
"""
