"""Values of pixels: decoding, padding, and what stored values mean.

No places: planes are next door.
"""
