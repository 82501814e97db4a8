"""Tasks in which a network restores a corrupted image, and their losses.

The corruptions are in ``corruptions``.
"""
