"""Random corruptions of images: each draws its parameters first and applies them then.

Nothing here knows of a network or a loss.
"""
